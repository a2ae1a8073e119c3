"""Kernels that change while a search goes on: the fused program rebuilt in place, and its moves."""
