"""The decision process: environments, observations and rewards."""
