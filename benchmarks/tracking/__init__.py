"""Tracks beside those of other programs, on films whose truth is known."""
