"""The command line; the only part of the project that reads arguments and writes to a terminal."""

from agent.cli.app import main

__all__ = ["main"]
