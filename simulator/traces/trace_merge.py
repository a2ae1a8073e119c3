"""Several traces of one step in one file: the same tracks, one group of them below the other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.errors import TraceError


def merged_traces(traces: Sequence[tuple[str, str]]) -> str:
    """Chrome trace events of several runs, each with its label before the names of its devices.

    Args:
        traces: label and JSON text of each, as `perfetto_json` and `measure --trace` write them.

    Raises:
        TraceError: a text that is no such trace.
    """
    events: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    offset = 0
    for label, text in traces:
        document = _parse(text, label)
        mine = [dict(event) for event in document["traceEvents"]]
        for event in mine:
            event["pid"] = int(event.get("pid", 0)) + offset
            if event.get("ph") == "M" and event.get("name") == "process_name":
                event["args"] = {"name": f"{label}: {event['args']['name']}"}
        events += mine
        events += [
            {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0,
             "args": {"sort_index": pid}}
            for pid in sorted({event["pid"] for event in mine})
        ]  # fmt: skip
        offset = max((event["pid"] for event in mine), default=offset)
        about[label] = document.get("otherData", {})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def read_trace(path: Path) -> str:
    """The text of a trace file.

    Raises:
        TraceError: it cannot be read, or is no trace.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: cannot be read ({error})") from error
    _parse(text, str(path))
    return text


def _parse(text: str, origin: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{origin}: not JSON ({error})") from error
    events = document.get("traceEvents") if isinstance(document, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise TraceError(
            f"{origin}: no Chrome trace; give what `simulate --trace` or `measure --trace` wrote"
        )
    return document
