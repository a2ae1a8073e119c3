"""Plans as device programs, run on paper and predicted."""
