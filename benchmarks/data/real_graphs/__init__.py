"""Models of torchvision, timm, transformers, diffusers and Keras as graphs to learn from."""
