"""The settings with their defaults, units and ranges: one file for the model, one for prediction, one for training."""
