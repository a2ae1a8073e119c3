"""What a run leaves on disk, and who is told about it."""
