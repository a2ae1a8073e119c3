"""TensorFlow's GraphDefs and SavedModels as graphs."""
