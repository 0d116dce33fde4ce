"""The files that a training run writes into its folder."""
