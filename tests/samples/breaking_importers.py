"""Importers that do what native code does on files that are made to break it."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from graphs.errors import GraphError, ModelError
from graphs.graph import Graph

#: What `hoards` takes at most, so that a test without a limit ends as well.
_MOST_BYTES = 3 << 30


def crashes(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Ends by a signal."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)
    raise AssertionError


def leaves(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Ends the process without a word."""
    os._exit(3)


def hushes(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Closes every file that it has, and goes on."""
    os.closerange(3, 256)
    time.sleep(300)
    raise AssertionError


def hoards(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Takes more and more memory."""
    held: list[bytes] = []
    while sum(len(part) for part in held) < _MOST_BYTES:
        held.append(b"\1" * (32 << 20))
        time.sleep(0.02)
    raise AssertionError("nobody minded")


def hangs(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Never ends; says in the file which process it is."""
    path.write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


def refuses(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """A mistake of the user's."""
    raise GraphError(f"{path}: strange \u202e name")


def lacks(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """A file that is not there."""
    raise FileNotFoundError(2, "No such file or directory", str(path))


def fails(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """A fault."""
    raise KeyError("a fault")


def prints(path: Path, dims: Mapping[str, int]) -> NoReturn:
    """Says something where answers could be."""
    sys.stdout.write("G not a graph\n")
    sys.stdout.flush()
    os.write(1, b"G not a graph\n")
    raise ModelError("printed")


def toy(path: Path, dims: Mapping[str, int]) -> Graph:
    """A graph with a name and a report that are hard to write down."""
    from graphs.builder import GraphBuilder, OpRecord, OutputTensor
    from graphs.import_report import ImportReport
    from graphs.kinds import OpKind

    builder = GraphBuilder("a \u202e name")
    builder.add(OpRecord("x", "Input", OpKind.INPUT, outputs=[OutputTensor("x", 8)]))
    builder.add(OpRecord("é\n", "Relu", OpKind.ACTIVATION, ["x"], [OutputTensor("y", 8)]))
    return builder.build(
        ImportReport(
            "toy",
            dict(dims),
            {"batch": 2**40},
            ("y",),
            {"Relu": 1},
            {},
            {},
            {},
            ("A note: \x1b[2J",),
        )
    )
