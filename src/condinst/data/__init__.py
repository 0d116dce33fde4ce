"""Annotation files and pictures → samples → transformed training examples → batches. Never sees the model."""
