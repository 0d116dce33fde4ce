"""Pictures with the annotation in their pixels: a mask for each object, or label images."""
