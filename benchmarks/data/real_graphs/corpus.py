"""The corpus as a folder: a graph file for each graph, and a manifest that says what they are."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.data.real_graphs.families import kin_of, split_of
from benchmarks.data.real_graphs.model import TRAINING, RealModel
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.graph_file import SUFFIX, write_graph
from graphs.import_gaps import import_gaps

MANIFEST = "manifest.json"
FORMAT = 1
FEWEST_OPS, MOST_OPS = 150, 12_000
#: What torch, TensorFlow and the packages raise where a model cannot be built or traced.
FAULTS = (
    RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ImportError,
    ArithmeticError, OSError, GraphwrightError,
)  # fmt: skip
_LONGEST_REASON = 200


@dataclass(frozen=True)
class LeftOut:
    """A graph that is not in the corpus, and why."""

    name: str
    reason: str


def write_corpus(
    models: Sequence[RealModel],
    build: Callable[[RealModel, str], Graph],
    out: Path,
    patience_seconds: int,
    say: Callable[[str], None],
    again: bool = False,
) -> list[LeftOut]:
    """Build what is not there yet; the manifest is up to date after every graph.

    Args:
        models: whose graphs are wanted.
        build: makes the graph of a name.
        out: the folder; graphs that its manifest lists are kept as they are.
        patience_seconds: a graph that takes longer is left out.
        say: is told of every graph.
        again: build anew what is there.

    Returns:
        What was left out of these models' graphs.
    """
    out.mkdir(parents=True, exist_ok=True)
    entries = {entry["name"]: relabelled(entry) for entry in read_manifest(out)["graphs"]}
    left_out: list[LeftOut] = []
    for model in models:
        for name in model.graph_names:
            if name in entries and not again:
                continue
            others = {key: entry for key, entry in entries.items() if key != name}
            start = time.perf_counter()
            try:
                with _patience(patience_seconds):
                    graph = build(model, name)
                _check(graph, others)
            except FAULTS as error:
                lines = f"{type(error).__name__}: {error}".strip().splitlines()
                left_out.append(LeftOut(name, lines[0][:_LONGEST_REASON]))
                say(f"left out {name}: {left_out[-1].reason}")
            else:
                write_graph(graph, out / f"{name}{SUFFIX}")
                entries[name] = entry_of(model, name, graph)
                seconds = time.perf_counter() - start
                say(f"wrote {name}: {graph.op_count:,} ops, {seconds:.0f} s")
            _write_manifest(out, entries, left_out)
    _write_manifest(out, entries, left_out)
    return left_out


def relabelled(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the manifest with kin and split as they are by now."""
    family = entry["family"]
    return {**entry, "kin": kin_of(family), "split": split_of(family).value}


def entry_of(model: RealModel, name: str, graph: Graph) -> dict[str, Any]:
    """A graph's line of the manifest."""
    gaps, report = import_gaps(graph), graph.report
    batch = model.batch_of(name)
    guesses: dict[str, Any] = {
        key: value
        for key, value in (
            ("estimated_ops", dict(report.estimated_ops)),
            ("composite_ops", dict(report.composite_ops)),
            ("opaque_ops", dict(report.opaque_ops)),
            ("assumed_dims", dict(report.assumed_dims)),
            ("unknown_shapes", len(report.unknown_shapes)),
        )
        if value
    }
    return {
        "name": name,
        "family": model.family,
        "kin": kin_of(model.family),
        "split": split_of(model.family).value,
        "package": model.package,
        "version": version(model.package).partition("+")[0],
        "training": name.endswith(TRAINING),
        "optimizer": model.optimizer if name.endswith(TRAINING) else None,
        "batch": batch,
        "inputs": {key: _shape(value) for key, value in model.inputs(batch).items()},
        "ops": graph.op_count,
        "edges": graph.edge_count,
        "gflop": round(gaps.flops / 1e9, 3),
        "parameter_bytes": gaps.parameter_bytes,
        "digest": graph.digest,
        "guesses": guesses,
    }


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of a folder; an empty one where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return {"format": FORMAT, "graphs": [], "left_out": []}
    return json.loads(path.read_text(encoding="utf-8"))


def _write_manifest(
    out: Path, entries: Mapping[str, Mapping[str, Any]], left_out: Sequence[LeftOut]
) -> None:
    """Lists of earlier calls stay, but for what has been built or tried since."""
    reasons = {item["name"]: item["reason"] for item in read_manifest(out)["left_out"]}
    reasons.update({item.name: item.reason for item in left_out})
    document = {
        "format": FORMAT,
        "graphs": [entries[name] for name in sorted(entries)],
        "left_out": [
            {"name": name, "reason": reasons[name]}
            for name in sorted(reasons)
            if name not in entries
        ],
    }
    text = json.dumps(document, indent=None, separators=(",", ":"))
    text = text.replace('{"name"', '\n{"name"') + "\n"
    partial = out / f"{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(out / MANIFEST)


def _check(graph: Graph, entries: Mapping[str, Mapping[str, Any]]) -> None:
    if not FEWEST_OPS <= graph.op_count <= MOST_OPS:
        raise ValueError(f"{graph.op_count:,} ops; wanted are {FEWEST_OPS:,} to {MOST_OPS:,}")
    for name, entry in entries.items():
        if entry["digest"] == graph.digest:
            raise ValueError(f"the same graph as {name}")


def _shape(value: Any) -> list[int]:
    return [int(size) for size in value.shape]


@contextmanager
def _patience(seconds: int) -> Iterator[None]:
    """Raises `TimeoutError` inside of the block when time is up; whole seconds, main thread."""

    def stop(signum: int, frame: object) -> None:
        del signum, frame
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
