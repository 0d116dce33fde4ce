"""Time and memory: programs that measure them, one command each."""
