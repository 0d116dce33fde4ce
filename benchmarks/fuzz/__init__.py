"""Damaged and hostile files: each must end in a result or in one line, within 10 seconds and 1 GB."""
