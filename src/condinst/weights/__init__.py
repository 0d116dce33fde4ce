"""Models on disk: our folder format and the names of the shipped ones."""
