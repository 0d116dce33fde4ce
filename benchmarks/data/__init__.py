"""Data sets: build them from where they are published, split them, show them."""
