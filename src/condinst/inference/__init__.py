"""Inference: from the output of the network to instances in pixels of the original image."""
