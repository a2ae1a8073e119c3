"""Writes files whole or not at all; every file that a command makes is written here.

What is written goes to a new file beside the one that is meant, which takes its place when all of
it is on disk. A full disk, a signal or a loss of power leave the file that was there before. A
symbolic link is replaced, and what it points to is not touched; pipes and devices such as
`/dev/stdout` are written to as they are.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from graphs.errors import GraphwrightError

#: What a name may be long on the usual file systems, in bytes.
_LONGEST_NAME_BYTES = 255
#: How the names of files end that are being written.
_PARTIAL = ".partial"


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
    with errors_naming(path):
        if _is_stream(path):
            with path.open("wb") as stream:
                yield stream
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = new_beside(path)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
            put_in_place(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_by_name(path: Path, write: Callable[[Path], object]) -> None:
    """Like `write_whole`, by a library that opens the file itself.

    Args:
        write: writes to the path that it is given.

    Raises:
        OSError: as `write_whole` does.
    """
    with errors_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = new_beside(path)
        # It is there before the library opens it, so that a link of that name cannot come to be.
        partial.open("xb").close()
        try:
            write(partial)
            put_in_place(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(folder: Path, kept_as: Path | None = None) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end of the block.

    Nothing stays of it where the block raises.

    Args:
        kept_as: a name for the folder that was there, which is removed in the end. A process that
            is killed in between leaves the old files there and nothing at `folder`. None: there
            must be none.

    Raises:
        OSError: as `write_whole` does.
    """
    with errors_naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = new_beside(folder)
        partial.mkdir()
        try:
            yield partial
            for path in partial.rglob("*"):
                if path.is_file():
                    _sync(path)
            if kept_as is not None and os.path.lexists(folder):
                _remove(kept_as)
                folder.rename(kept_as)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync(folder.parent)
        if kept_as is not None:
            _remove(kept_as)


def open_to_append(path: Path) -> TextIOWrapper:
    """Open a file that grows line by line, UTF-8; `add_line` writes to it.

    Raises:
        GraphwrightError: it is a symbolic link.
        OSError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    if path.is_symlink():
        raise GraphwrightError(
            f"{path} is a link to another file, which nothing is added to; remove the link or "
            "choose another folder"
        )
    return open(path, "a", encoding="utf-8", opener=lambda name, _: os.open(name, flags, 0o666))


def add_line(file: TextIOWrapper, line: str) -> None:
    """Add a line; it is on disk when this returns.

    Raises:
        OSError: it cannot be written; its `filename` is the file's, which ends as it did before.
    """
    left = memoryview(f"{line}\n".encode())
    before = os.fstat(file.fileno()).st_size
    with errors_naming(Path(file.name)):
        try:
            while left:
                left = left[os.write(file.fileno(), left) :]
            _sync_open(file.fileno())
        except OSError:
            with suppress(OSError):  # a pipe takes nothing back
                os.ftruncate(file.fileno(), before)
            raise


def put_in_place(partial: Path, path: Path) -> None:
    """Let a file that is complete take its place, with the mode of the one that was there."""
    if path.is_file() and not path.is_symlink():
        with suppress(OSError):
            partial.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def new_beside(path: Path) -> Path:
    """A name in the same folder that nothing has and nobody guesses."""
    end = f".{secrets.token_hex(8)}{_PARTIAL}"
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
def errors_naming(path: Path) -> Iterator[None]:
    """Errors name the file that was meant, which the system does not where a disk is full."""
    try:
        yield
    except OSError as error:
        of_another = error.filename is not None and not str(error.filename).endswith(_PARTIAL)
        if error.errno is None or of_another:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk.

    Raises:
        OSError: the disk is full. Folders that cannot be synchronised are left alone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync_open(descriptor)
    finally:
        os.close(descriptor)


def _sync_open(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:  # pipes, and folders of some file systems, cannot be synchronised
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise


def _remove(path: Path) -> None:
    """Remove a folder, or a link to one."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
