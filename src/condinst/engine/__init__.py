"""Training, from settings to a model folder. Only this package handles processes and devices."""
