"""Plans of graphs without kernels, run by stand-ins in torch."""
