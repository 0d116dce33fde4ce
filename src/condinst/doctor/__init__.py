"""What is wrong with annotated pictures, found without training on them; and a repaired copy."""
