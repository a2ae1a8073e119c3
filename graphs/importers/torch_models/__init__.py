"""Programs of torch.export as graphs."""
