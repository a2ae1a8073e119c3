"""Training a policy over many graphs."""
