"""Masks as bitmaps, run lengths and outlines: conversions and measures."""
