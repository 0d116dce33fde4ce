"""Accuracy: trainings of condinst beside other models, and the results page."""
