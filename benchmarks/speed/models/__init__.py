"""Models with random weights that give as many instances as wanted."""
