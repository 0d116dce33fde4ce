"""Pictures whose pixels are the annotation: a mask for each object, or label images."""
