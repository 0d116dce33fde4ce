"""Checks annotated data sets without training on them, and writes repaired copies."""
