"""Reads a model in a process of its own, which may crash, hang or fill the memory.

Formats of other projects are read by native code: onnx's shape inference, TensorFlow's, XLA. A
file that breaks it ends that process and becomes an error. The graph comes back as the bytes of a
graph file, which are checked like any other's.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from graphs.errors import GraphError, GraphwrightError, ModelError
from graphs.graph import Graph
from graphs.graph_file import graph_from_bytes
from graphs.import_child_process import FAULT, GRAPH, MISTAKE, SYSTEM, answer
from graphs.import_limits import ImportLimits
from graphs.python_process import start_python

_PROCESS = "graphs.import_child_process"
#: How often memory and time are looked at.
_LOOK_SECONDS = 0.05
#: How long a process that has closed its pipe may take to end.
_FAREWELL_SECONDS = 5.0
#: No graph is larger; a process that was taken over may send without end.
_LARGEST_REPLY = 1 << 31
#: Libraries whose threads do not survive a fork, so that locks may stay closed for ever.
_THREADED = ("tensorflow", "torch", "onnxruntime", "jax")
_ERRORS: Mapping[str, type[GraphwrightError]] = {
    kind.__name__: kind for kind in (ModelError, GraphError, GraphwrightError)
}


class ImportFault(RuntimeError):
    """The importer itself failed in the other process; the message holds its traceback."""


@dataclass(frozen=True)
class _Child:
    pid: int
    pipe: int
    """The end that is read."""


def import_in_child(
    importer: str,
    path: Path,
    dims: Mapping[str, int],
    signature: str | None,
    limits: ImportLimits,
) -> Graph:
    """Run an importer in a process of its own.

    Args:
        importer: `module:function`.
        path: the model.
        dims: sizes of symbolic dimensions.
        signature: where the format has them.
        limits: memory and time after which the process is ended.

    Raises:
        ModelError: what the importer raises; or the process ended by a signal, or took more than
            the limits allow.
        OSError: the model cannot be read, or no process can be started.
        ImportFault: the importer has a fault.
    """
    request = {
        "importer": importer,
        "path": str(path),
        "dims": dict(dims),
        "signature": signature,
        "parent": os.getpid(),
    }
    with _started(json.dumps(request)) as child:
        reply = _received(child, path, limits)
    return _graph_of(reply, path)


def may_fork() -> bool:
    """Whether this process can be copied: nothing in it has threads that would be missing."""
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and not any(name in sys.modules for name in _THREADED)
    )


@contextmanager
def _started(request: str) -> Iterator[_Child]:
    """The process, which is ended at the end of the block with all that it has started."""
    reading, writing = os.pipe()
    process: subprocess.Popen[bytes] | None = None
    try:
        if may_fork():
            pid = _forked(reading, writing, request)
        else:
            process = start_python(
                _PROCESS, [str(writing), request], pass_fds=[writing], stdin=subprocess.DEVNULL
            )
            pid = process.pid
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    os.close(writing)
    try:
        yield _Child(pid, reading)
    finally:
        os.close(reading)
        _end(pid)
        if process is not None:
            process.wait()
        else:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _forked(reading: int, writing: int, request: str) -> int:
    with warnings.catch_warnings():  # of threads, which `may_fork` has looked at
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            answer(writing, json.loads(request))
        finally:
            os._exit(1)
    with suppress(OSError):  # also done there: whoever is first
        os.setpgid(pid, pid)
    return pid


def _end(pid: int) -> None:
    """End a process and its group, whether or not it has one yet."""
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _received(child: _Child, path: Path, limits: ImportLimits) -> bytes:
    """What the process sends, until it has ended."""
    most, until = limits.most_bytes, time.monotonic() + limits.seconds
    pieces: list[bytes] = []
    size, looked = 0, 0.0
    while True:
        ready, _, _ = select.select([child.pipe], [], [], _LOOK_SECONDS)
        if ready:
            piece = os.read(child.pipe, 1 << 20)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        now = time.monotonic()
        if now - looked >= _LOOK_SECONDS:
            looked = now
            if _resident_bytes(child.pid) > most:
                raise ModelError(
                    f"{path}: reading it takes more than {most / 2**20:,.0f} MiB of memory, and "
                    f"was ended; allow more with --import-memory, {_TRUST}"
                )
        if now > until:
            raise ModelError(
                f"{path}: reading it takes longer than {limits.seconds:g} s, and was ended; allow "
                f"more with --import-time, {_TRUST}"
            )
        if size > _LARGEST_REPLY:
            raise ModelError(f"{path}: reading it makes a graph of more than 2 GiB")
    reply = b"".join(pieces)
    if reply:
        return reply
    raise ModelError(f"{path}: {_how_it_ended(child.pid)}")


_TRUST = "or read a model that you trust with --trust (in Python: limits=None)"


def _how_it_ended(pid: int) -> str:
    """A sentence on a process that ended without a word."""
    until, info = time.monotonic() + _FAREWELL_SECONDS, None
    while info is None and time.monotonic() < until:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        time.sleep(0.0 if info is not None else _LOOK_SECONDS / 10)
    number = 0 if info is None or info.si_code == os.CLD_EXITED else info.si_status
    if number == signal.SIGKILL:
        return (
            "the process that read it was killed from outside, for want of memory as a rule; give "
            "the machine more, or export a smaller model"
        )
    how = signal.Signals(number).name if number else "an exit in the middle of it"
    return (
        f"the process that read it was ended by {how}: the file is damaged, or made to break what "
        "reads it. Get it anew from where it comes from, or export the model again"
    )


def _resident_bytes(pid: int) -> int:
    """Memory of a process and of those that it has started; 0 where the system does not tell."""
    total, waiting = 0, [pid]
    while waiting:
        number = waiting.pop()
        with suppress(OSError, ValueError, IndexError):
            folder = Path("/proc") / str(number)
            fields = (folder / "statm").read_text(encoding="ascii").split()
            total += int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
            children = (folder / "task" / str(number) / "children").read_text(encoding="ascii")
            waiting.extend(map(int, children.split()))
    return total


def _graph_of(reply: bytes, path: Path) -> Graph:
    """The graph in a reply, or the error."""
    kind, content = reply[:1], reply[1:]
    if kind == GRAPH:
        return graph_from_bytes(content, str(path))
    if kind == FAULT:
        raise ImportFault(f"reading {path} failed:\n{content.decode('utf-8', 'replace')}")
    try:
        told = json.loads(content)
        if kind == MISTAKE:
            names, message = told
            error = next((_ERRORS[name] for name in names if name in _ERRORS), ModelError)
            raise error(str(message))
        if kind == SYSTEM:
            number, text, name = told
            raise OSError(number, text, name)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: the process that read it sent no answer ({error})") from error
    raise ModelError(f"{path}: the process that read it sent no answer")
