"""Runs plans on the devices that are there, and measures them."""
