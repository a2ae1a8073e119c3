"""What runs a graph: devices, the links between them, and what was measured of them."""
