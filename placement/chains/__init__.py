"""Chains of one search in processes of their own, which tell each other the best plan."""
