"""Random changes that combine pictures, and the pictures that they need."""
