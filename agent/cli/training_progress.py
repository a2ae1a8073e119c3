"""How a training run is getting on, for whoever watches."""

import sys
import time
from collections.abc import Mapping

from agent.runs.tracking.tracker import Silent

_SECONDS_BETWEEN_LINES = 20.0
_SHOWN = {
    "outcome_loss": "outcome loss",
    "log_gain": "log gain",
    "validation/ratio": "validation ratio",
    "validation/untrained_ratio": "untrained",
    "validation/best_ratio": "best plan",
    "validation/greedy_ratio": "greedy plan",
    "validation/untaught_best_ratio": "untaught best",
}
#: Figures that are told as soon as they come.
_LOOKS = {"validation/ratio", "validation/best_ratio"}


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
        elif _LOOKS & figures.keys() or now - self._written > _SECONDS_BETWEEN_LINES:
            sys.stderr.write(f"{self.line()}\n")
            self._written = now

    def line(self) -> str:
        """Where the run stands."""
        done = max(self._round - self._begun_at, 1)
        parts = [f"round {self._round}/{self._rounds}"]
        parts.extend(
            f"{said} {self._known[name]:.4f}"
            for name, said in _SHOWN.items()
            if name in self._known
        )
        parts.append(f"{(time.monotonic() - self._begun) / done:.1f} s a round")
        return "  ".join(parts)

    def close(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\n")
