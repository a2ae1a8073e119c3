"""Plans run by onnxruntime."""
