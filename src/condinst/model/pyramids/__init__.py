"""Feature pyramids: C3–C5 → the levels of the pyramid."""
