"""The faster form of a network for prediction."""
