"""The event engine: compiled, and in plain Python to check it."""
