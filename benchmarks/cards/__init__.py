"""Model cards: measure a trained model and write its card and its pictures."""
