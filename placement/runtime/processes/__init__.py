"""Worker processes and what they share."""
