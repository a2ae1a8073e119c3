"""Runs in TensorBoard, where it is installed."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from agent.runs.tracking.tracker import aligned
from graphs.errors import GraphwrightError


class TensorBoardTracker:
    """Writes event files to `tensorboard` in a run's folder.

    Args:
        folder: of the run.
        resumed_at: hide what was told after this step.

    Raises:
        GraphwrightError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        check_installed()
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_at is None else resumed_at + 1
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)
        self._step = resumed_at or 0

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        if rows:
            columns, values = aligned(rows)
            lines = [columns, ["---"] * len(columns), *values]
            text = "\n".join("|" + "|".join(map(str, line)) + "|" for line in lines)
            self._writer.add_text(name, text, step)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self._writer.add_text(f"{kind}/{name}", f"`{path}`", self._step)

    def summary(self, figures: Mapping[str, Any]) -> None:
        self._writer.add_text("summary", f"`{json.dumps(figures, default=str)}`", self._step)

    def close(self) -> None:
        self._writer.close()


def check_installed() -> None:
    """Before anything is written.

    Raises:
        GraphwrightError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise GraphwrightError(
            "TensorBoard is not installed; `pip install tensorboard`, or track with wandb or "
            "none: metrics.jsonl is written in any case"
        )
