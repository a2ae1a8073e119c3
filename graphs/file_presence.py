"""Whether what a user wrote names a file or a folder that is there.

A reference may be a file's path or a name of something else, and of a text that no file can be
called by, `pathlib` raises instead of saying no: one that is longer than names may be.
"""

import errno
from collections.abc import Callable
from pathlib import Path


def is_there(path: str | Path) -> bool:
    """Whether there is a file or a folder of that path.

    Raises:
        OSError: that cannot be told, as where a folder may not be looked into.
    """
    return _asked(Path(path).exists)


def is_file(path: str | Path) -> bool:
    """The same of a file."""
    return _asked(Path(path).is_file)


def is_folder(path: str | Path) -> bool:
    """The same of a folder."""
    return _asked(Path(path).is_dir)


def _asked(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except ValueError:  # a NUL
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
