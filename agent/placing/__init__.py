"""A trained policy as a placer."""
