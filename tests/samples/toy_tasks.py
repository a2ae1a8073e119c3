"""Jobs for tests of what runs tasks; processes of other kinds import them from here."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from graphs.errors import GraphwrightError


@dataclass(frozen=True)
class Told:
    """A result, and which process it came from."""

    value: int
    process: int
    paths: tuple[str, ...]


class Squares:
    """Squares numbers, and does as the folder's files say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = 0

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "calls": 0}

    def __call__(self, task: int) -> Told:
        """The square; dies, fails or waits where a file says so.

        Raises:
            GraphwrightError: the file `mistake-TASK` is there.
        """
        self.calls += 1
        if (self.folder / f"mistake-{task}").exists():
            raise GraphwrightError(f"no square of {task}")
        once, always = self.folder / f"die-{task}", self.folder / f"die-always-{task}"
        if once.exists() or always.exists():
            once.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"fault-{task}").exists():
            raise ZeroDivisionError("a fault of the code")
        (self.folder / f"begun-{task}").touch()
        while (self.folder / f"wait-{task}").exists():
            time.sleep(0.02)
        return Told(task * task, os.getpid(), tuple(sys.path))
