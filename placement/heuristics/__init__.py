"""Placers without search."""
