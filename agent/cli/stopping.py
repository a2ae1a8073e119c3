"""Stopping a long command at a good moment."""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any


class StopAtSignal:
    """Notes Ctrl-C, and the TERM that `torchrun` and batch systems send; a second one interrupts.

    Call it to hear whether to stop.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked

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

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        sys.stderr.write(
            f"\ngraphwright: stopping after this {self._what}; again to stop at once\n"
        )
