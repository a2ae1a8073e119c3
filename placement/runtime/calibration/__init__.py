"""Measuring what ops, transfers and runs cost on a machine."""
