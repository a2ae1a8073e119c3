"""Placers to be measured against: what TensorFlow does unasked, and published learned ones."""
