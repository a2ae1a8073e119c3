"""What a run tells, whoever listens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Tracker(Protocol):
    """Takes figures, tables, pictures and files of one run."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures at a step; steps never go down."""
        ...

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Rows of plain values; what a row lacks that others have is None in it."""
        ...

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """A picture as uint8, height by width by 3."""
        ...

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """A file or folder that belongs to the run, such as a checkpoint."""
        ...

    def summary(self, figures: Mapping[str, Any]) -> None:
        """What the run comes down to; later calls add to it."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class Silent:
    """A tracker that forgets everything."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        pass

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        pass

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        pass

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        pass

    def summary(self, figures: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def aligned(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """The columns of a table, those of any row in the order in which they come up, and its rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[row.get(name) for name in columns] for row in rows]
