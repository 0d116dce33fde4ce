"""Backbones: image → C3, C4, C5."""
