"""Seeded generators of graphs like the real ones; no framework at run time."""
