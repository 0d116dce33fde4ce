"""The speed page, its tables and its plots, written from the measured times."""
