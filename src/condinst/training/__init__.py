"""Training targets and losses: which location learns which instance, and how far the output is from its target."""
