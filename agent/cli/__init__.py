"""The command line; the only part of the project that reads arguments and writes to a terminal."""

import sys
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script: no code of the current folder runs."""
    _settle_imports()
    # A terminal that knows fewer signs than the text has is shown their codes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from agent.cli.app import main as run_main

    run_main()


def _settle_imports() -> None:
    """Leave the current folder out of where code comes from; end where a package is foreign."""
    try:
        from graphs.import_paths import leave_out_current_folder

        leave_out_current_folder()
        import graphs.own_packages  # noqa: F401 - refuses what is not graphwright's
    except ImportError as error:
        reason = str(error)
        if (error.name or "").startswith("graphs"):  # not ours, so that it cannot say so itself
            path = getattr(sys.modules.get("graphs"), "__file__", None) or "nowhere"
            reason = (
                f"`graphs` is imported from {path}, and that is not graphwright's: install it in a "
                "virtual environment of its own"
            )
        sys.stderr.write(f"graphwright: {reason}\n")
        sys.exit(2)
