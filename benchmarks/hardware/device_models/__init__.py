"""Models of ten to sixty milliseconds a step, on which predictions and plans are tried out."""
