"""Hostile input: every reader is given damaged files, and may refuse them but not break.

    python -m tests.fuzz onnx --seconds 600 --seed 1

A target (`registry.py`) is a kind of file: samples that are whole, a way to damage them, and the
reader. A campaign (`campaign.py`) runs one in a process with limits.
"""
