"""A list scheduler that draws devices from scores that a network gives, compiled."""
