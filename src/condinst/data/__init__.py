"""Reads annotation files and pictures, and makes samples, training examples and batches. Does not import the model."""
