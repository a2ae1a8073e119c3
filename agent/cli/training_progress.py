"""How a training run is getting on, for whoever watches."""

import sys
import time
from collections.abc import Mapping

from agent.tracking.tracker import Silent

_SECONDS_BETWEEN_LINES = 20.0


class TrainingProgress(Silent):
    """A tracker that writes lines to standard error; on a terminal the last one is renewed."""

    def __init__(self, rounds: int, begun_at: int = 0) -> None:
        self._rounds = rounds
        self._round = self._begun_at = begun_at
        self._begun = time.monotonic()
        self._written = -_SECONDS_BETWEEN_LINES
        self._known: dict[str, float] = {}

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._known |= figures
        self._round = step
        now = time.monotonic()
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{self.line()}")
            sys.stderr.flush()
        elif "validation/ratio" in figures or now - self._written > _SECONDS_BETWEEN_LINES:
            sys.stderr.write(f"{self.line()}\n")
            self._written = now

    def line(self) -> str:
        """Where the run stands."""
        done = max(self._round - self._begun_at, 1)
        parts = [f"round {self._round}/{self._rounds}"]
        if "log_gain" in self._known:
            parts.append(f"log gain {self._known['log_gain']:.4f}")
        if "validation/ratio" in self._known:
            parts.append(f"validation ratio {self._known['validation/ratio']:.4f}")
        parts.append(f"{(time.monotonic() - self._begun) / done:.1f} s a round")
        return "  ".join(parts)

    def close(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\n")
