"""Instances and masks of the SOLO family."""
