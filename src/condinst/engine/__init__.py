"""The loops around the model: training and evaluation. Processes and devices are known here and nowhere else."""
