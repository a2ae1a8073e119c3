"""What is fuzzed: a reader, whole samples of what it reads, and a way to damage them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

#: Damages one sample; the others may be mixed into it.
Mutate = Callable[[bytes, Sequence[bytes], Random], bytes]


@dataclass(frozen=True)
class Target:
    """A kind of file. All that it needs is imported by `open`, in the process that runs it."""

    about: str
    open: Callable[[Path], "OpenTarget"]
    """Given a folder for the files that are read."""
    modules: tuple[str, ...]
    """Folders and files, from the root, whose lines say whether an input did something new."""
    short_runs: int = 100
    """Executions in the test suite."""


@dataclass(frozen=True)
class OpenTarget:
    """A target in the process that runs it."""

    read: Callable[[bytes], None]
    """Raises nothing but the project's own errors, whatever it is given."""
    samples: Sequence[bytes]
    """Whole files, at least one of which is read without an error."""
    mutate: Mutate
