"""Models that people run now, in plain torch with random weights: only their graphs matter."""
