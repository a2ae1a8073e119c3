"""Stopping a command by a signal: at once, or a long one at a good moment."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from agent.cli.exit_codes import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, with all that is cleaned up then."""


@contextmanager
def termination_heeded() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`; not where it is ignored or has an answer already."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    # Schedulers may send it again and again: what is being cleaned up is left to end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


class StopAtSignal:
    """Notes Ctrl-C, and the TERM that `torchrun` and batch systems send; a second one interrupts.

    Call it to hear whether to stop.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._asked = False
        self._exit_code = INTERRUPTED
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked

    @property
    def exit_code(self) -> int:
        """Of a command that was stopped: which signal it was."""
        return self._exit_code

    def __enter__(self) -> "StopAtSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._asked = True
        self._exit_code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        sys.stderr.write(
            f"\ngraphwright: stopping after this {self._what}; again to stop at once\n"
        )
