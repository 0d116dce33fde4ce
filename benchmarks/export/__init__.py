"""Exported programs: their speed beside other programs, and how they differ from the models."""
