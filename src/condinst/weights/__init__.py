"""Models on disk: the model folder, names of models, and downloads."""
