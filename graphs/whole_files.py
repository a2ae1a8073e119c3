"""Writes files whole or not at all; every file that a command makes is written here.

What is written goes to a new file beside the one that is meant, which takes its place when all of
it is on disk. A full disk, a signal or a loss of power leave the file that was there before. A
symbolic link is replaced, and what it points to is not touched; pipes and devices such as
`/dev/stdout` are written to as they are.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: What a name may be long on the usual file systems, in bytes.
_LONGEST_NAME_BYTES = 255


def write_whole(path: Path, content: bytes | str) -> None:
    """Write one file; text is UTF-8.

    Raises:
        OSError: it cannot be written; its `filename` is `path`, and what was there is still there.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of `path` at the end of the block.

    Nothing stays of it where the block raises.

    Raises:
        OSError: as `write_whole` does.
    """
    with _named(path):
        if _is_stream(path):
            with path.open("wb") as stream:
                yield stream
            return
        partial = new_beside(path)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                with suppress(OSError):  # whoever may write a file may not always set its mode
                    os.fchmod(descriptor, stat.S_IMODE(path.lstat().st_mode) & 0o666)
                os.fsync(descriptor)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_by_name(path: Path, write: Callable[[Path], object]) -> None:
    """Like `write_whole`, by a library that opens the file itself.

    Args:
        write: writes to the path that it is given.

    Raises:
        OSError: as `write_whole` does.
    """
    with _named(path):
        partial = new_beside(path)
        # It is there before the library opens it, so that a link of that name cannot come to be.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            write(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def new_beside(path: Path) -> Path:
    """A name in the same folder that nothing has and nobody guesses."""
    end = f".{secrets.token_hex(8)}.partial"
    room = _LONGEST_NAME_BYTES - len(end) - 1
    name = path.name.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")
    return path.with_name(f".{name}{end}")


def _is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a terminal or another device, itself or by way of links."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors name the file that was meant, which the system does not where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Put the new name on disk too, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
