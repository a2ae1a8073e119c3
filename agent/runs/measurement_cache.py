"""Measured ratios on disk: a file for each graph, reference plan, plan and machine."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from graphs.whole_files import write_whole
from placement.runtime.hardware_evaluator import MeasuredRatio, MeasurementKey

SCHEMA_VERSION = 1
_SUFFIX = ".json"


def default_folder() -> Path:
    """`measurements` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "graphwright" / "measurements"


class DiskCache(MutableMapping[MeasurementKey, MeasuredRatio]):
    """A measurement cache that outlives the process; several may use one folder.

    Each measurement is a small file that appears as a whole or not at all. What cannot be read, or
    was written by another version, counts as not there. Failed measurements are forgotten with the
    process: what killed a worker once need not do so again. A folder that cannot be written to
    makes the cache one of this process only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[MeasurementKey, MeasuredRatio] = {}

    def __getitem__(self, key: MeasurementKey) -> MeasuredRatio:
        if key not in self._known:
            self._known[key] = self._read(key)
        return self._known[key]

    def __setitem__(self, key: MeasurementKey, value: MeasuredRatio) -> None:
        self._known[key] = value
        if value.failure is not None or not math.isfinite(value.ratio):
            return
        path = self._path(key)
        body = json.dumps({"schema_version": SCHEMA_VERSION, "ratio": value.ratio})
        with contextlib.suppress(OSError):
            write_whole(path, body)

    def __delitem__(self, key: MeasurementKey) -> None:
        self[key]
        del self._known[key]
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def __iter__(self) -> Iterator[MeasurementKey]:
        keys = set(self._known)
        for path in self.folder.glob(f"*/*/*{_SUFFIX}"):
            reference, _, plan = path.name.removesuffix(_SUFFIX).partition("-")
            keys.add((path.parent.name, reference, plan, path.parent.parent.name))
        return iter(sorted(keys))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, key: MeasurementKey) -> Path:
        graph, reference, plan, machine = key
        return self.folder / machine / graph / f"{reference}-{plan}{_SUFFIX}"

    def _read(self, key: MeasurementKey) -> MeasuredRatio:
        try:
            body = json.loads(self._path(key).read_text(encoding="utf-8"))
            if body["schema_version"] != SCHEMA_VERSION:
                raise KeyError(key)
            ratio = float(body["ratio"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise KeyError(key) from error
        if not (math.isfinite(ratio) and ratio > 0):
            raise KeyError(key)
        return MeasuredRatio(ratio)
