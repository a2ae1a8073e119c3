"""Output shapes of ops that onnx does not infer: onnxruntime's own domains and the training ops."""
