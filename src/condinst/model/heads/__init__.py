"""Heads, their towers, and the mask features."""
