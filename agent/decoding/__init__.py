"""Whole plans from one look at a graph: a network whose scores a list scheduler decodes."""
