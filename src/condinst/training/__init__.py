"""From truth to losses: which locations learn which instance, and how far the output is from it."""
