"""Segment films: frames in, a film with masks and a line for each frame out."""
