"""Large pictures: memory and time by size, and what the seams of tiles cost."""
