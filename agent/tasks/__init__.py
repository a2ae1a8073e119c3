"""Where independent tasks run, all in one way: here, in processes, on a Ray cluster."""
