"""A server under load: answers a second, waits, memory, and clients that misbehave."""
