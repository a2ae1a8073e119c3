"""The command line; the only part of the project that reads arguments and writes to a terminal."""

import sys
from io import TextIOWrapper

from graphs.import_paths import leave_out_current_folder

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script: no code of the current folder runs."""
    leave_out_current_folder()
    # A terminal that knows fewer signs than the text has is shown their codes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from agent.cli.app import main as run_main

    run_main()
