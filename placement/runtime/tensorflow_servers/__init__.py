"""Plans run by TensorFlow servers."""
