"""One run told to several listeners."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.runs.tracking.tracker import Tracker


class Several:
    """Tells each of its trackers everything, in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, figures)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        for tracker in self._trackers:
            tracker.table(name, rows, step)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        for tracker in self._trackers:
            tracker.image(name, pixels, step)

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        for tracker in self._trackers:
            tracker.artifact(name, kind, path, metadata)

    def summary(self, figures: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.summary(figures)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()
