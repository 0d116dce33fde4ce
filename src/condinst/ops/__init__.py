"""Functions on tensors and arrays: boxes, masks, losses, drawing. No parameters, no configuration."""
