"""Everything that decides a plan, by name."""
