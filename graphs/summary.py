"""Figures of a graph for people: sizes, kinds, and what its import assumed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind, Storage

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class KindRow:
    """Totals of the ops of one kind."""

    kind: str
    ops: int
    flops: float
    bytes_moved: float
    resident_bytes: int


@dataclass(frozen=True)
class GraphSummary:
    """Totals of a graph."""

    name: str
    digest: str
    source_format: str
    ops: int
    edges: int
    flops: float
    bytes_moved: float
    resident_bytes: int
    """Parameters and optimizer state, shared weights included."""
    depth: int
    """Ops on the longest path."""
    width: int
    """Most ops at the same depth."""
    kinds: tuple[KindRow, ...]
    assumptions: tuple[str, ...]
    """One sentence for each thing that the importer assumed."""

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, with `graph` for the name as in every other command."""
        values = asdict(self)
        values["graph"] = values.pop("name")
        return values


def op_depths(graph: Graph) -> Int64[np.ndarray, " ops"]:
    """Edges on the longest path from a source to each op."""
    depths = [0] * graph.op_count
    sources = graph.tensor_producers[graph.edge_tensors][graph.input_edges].tolist()
    targets = graph.consumers[graph.input_edges].tolist()
    for source, target in zip(sources, targets, strict=True):
        depths[target] = max(depths[target], depths[source] + 1)
    return np.array(depths, np.int64)


def summarise(graph: Graph) -> GraphSummary:
    """Work out the figures; linear in the graph's size."""
    depths = op_depths(graph)
    moved = graph.bytes_read + graph.bytes_written
    shared = int(graph.tensor_bytes[graph.tensor_storage == Storage.WEIGHT].sum())
    rows = [
        KindRow(
            kind.name.lower(),
            int(mine.sum()),
            float(graph.flops[mine].sum()),
            float(moved[mine].sum()),
            int(graph.resident_bytes[mine].sum()),
        )
        for kind in OpKind
        if (mine := graph.kinds == kind).any()
    ]
    return GraphSummary(
        name=graph.name,
        digest=graph.digest,
        source_format=graph.report.source_format,
        ops=graph.op_count,
        edges=graph.edge_count,
        flops=float(graph.flops.sum()),
        bytes_moved=float(moved.sum()),
        resident_bytes=int(graph.resident_bytes.sum()) + shared,
        depth=int(depths.max()) + 1,
        width=int(np.bincount(depths).max()),
        kinds=tuple(sorted(rows, key=lambda row: -row.bytes_moved)),
        assumptions=tuple(_assumptions(graph.report)),
    )


def _assumptions(report: ImportReport) -> list[str]:
    lines = [
        f"dimension {name} was left open; assumed {size} (set it with --dim {name}=...)"
        for name, size in report.assumed_dims.items()
    ]
    if report.unknown_shapes:
        shown = ", ".join(report.unknown_shapes[:_NAMES_SHOWN])
        more = len(report.unknown_shapes) - _NAMES_SHOWN
        lines.append(
            f"{len(report.unknown_shapes)} tensors of unknown shape: {shown}"
            + (f" and {more} more" if more > 0 else "")
        )
    for op_type, count in report.estimated_ops.items():
        lines.append(f"{count} x {op_type}: no cost formula; estimated from the sizes of tensors")
    for op_type, count in report.opaque_ops.items():
        lines.append(f"{count} x {op_type}: its work cannot be read; costed from its tensors alone")
    for op_type, count in report.folded_ops.items():
        lines.append(f"{count} x {op_type}: depend on constants alone; folded, as runtimes do")
    for op_type, count in report.composite_ops.items():
        lines.append(f"{count} x {op_type}: control flow, imported as one op with its body's cost")
    return lines + list(report.notes)
