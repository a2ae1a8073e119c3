"""Rows of benchmarks: read, appended, and stamped with the commit that was measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.runs.commit import current_commit

#: Where tables and their rows lie.
RESULTS = Path(__file__).parent / "results"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, one JSON object a line; none where there is no file yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a file, on disk at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")


def commit() -> str:
    """The commit that is measured, with a + where files differ from it."""
    return current_commit() or "unknown"
