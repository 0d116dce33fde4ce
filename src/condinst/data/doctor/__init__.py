"""What can be wrong with annotated pictures, found by looking at one picture at a time; and a repaired copy of them."""
