"""Reads StableHLO modules, by the HLO into which TensorFlow lowers them."""
