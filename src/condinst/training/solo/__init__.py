"""Training targets and losses of the SOLO family."""
