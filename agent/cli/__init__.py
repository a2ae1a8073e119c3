"""The command line; the only part of the project that reads arguments and writes to a terminal."""

from graphs.import_paths import leave_out_current_folder

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script: no code of the current folder runs."""
    leave_out_current_folder()
    from agent.cli.app import main as run_main

    run_main()
