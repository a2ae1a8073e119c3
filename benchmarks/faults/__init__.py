"""What becomes of commands that are killed, starved, misled or run for hours."""
