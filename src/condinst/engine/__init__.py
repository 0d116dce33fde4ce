"""Training, from settings to a model folder. Processes and devices are known here and nowhere else."""
