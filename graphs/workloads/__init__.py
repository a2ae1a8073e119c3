"""Training steps of the models that placement papers measure, built as TensorFlow graphs."""
