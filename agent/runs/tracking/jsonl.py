"""The local record of a run, always kept: one JSON object per line, and pictures beside it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from graphs.whole_files import add_line, open_to_append, write_by_name, write_whole

METRICS = "metrics.jsonl"
_PICTURES = "pictures"


class JsonLines:
    """A tracker that writes `metrics.jsonl` in a run's folder.

    Lines are `{"step": 3, "figures": {...}}`, or hold `table` and `rows`, `picture`, `artifact` or
    `summary` in place of figures. Each is on disk before the call returns.

    Args:
        folder: of the run.
        resumed_at: keep what was told up to this step and forget the rest, which is about to be
            told again; None begins anew.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._step = resumed_at or 0
        path = folder / METRICS
        kept = [] if resumed_at is None else _lines_until(path, resumed_at)
        if kept:
            write_whole(path, "".join(f"{line}\n" for line in kept))
        else:
            path.unlink(missing_ok=True)
        self._file: TextIOWrapper | None = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._write(step, {"figures": dict(figures)})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._write(step, {"table": name, "rows": [dict(row) for row in rows]})

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        from matplotlib.image import imsave

        path = Path(_PICTURES) / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-{step}.png"
        (self._folder / _PICTURES).mkdir(exist_ok=True)
        write_by_name(
            self._folder / path,
            lambda partial: imsave(partial, pixels, format="png", origin="upper"),
        )
        self._write(step, {"picture": name, "path": str(path)})

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        inside = path.resolve().is_relative_to(self._folder.resolve())
        shown = path.resolve().relative_to(self._folder.resolve()) if inside else path
        about = {"artifact": name, "kind": kind, "path": str(shown)}
        self._write(self._step, {**about, "metadata": dict(metadata or {})})

    def summary(self, figures: Mapping[str, Any]) -> None:
        self._write(self._step, {"summary": dict(figures)})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        self._step = step
        if self._file is None:  # the file is never there without a line
            self._file = open_to_append(self._folder / METRICS)
        add_line(self._file, json.dumps(_plain({"step": step, **values}), allow_nan=False))


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """All that was told of a run; a last line that was cut off is left out."""
    return [json.loads(line) for line in _lines_until(folder / METRICS, None)]


def _lines_until(path: Path, step: int | None) -> list[str]:
    """Whole lines up to a step; a killed process may leave half a line at the end."""
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if step is None or entry["step"] <= step:
            kept.append(line)
    return kept


def _plain(value: Any) -> Any:
    """JSON's own types; it knows neither infinities nor NumPy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)
