"""What was measured, and the programs that measure it: speed, accuracy, model cards and their data."""
