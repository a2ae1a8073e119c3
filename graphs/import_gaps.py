"""What an import did not know, weighed against the graph: said wherever a plan is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, Phase, Storage

#: An import with a larger share of tensors of unknown shape is refused unless that is allowed.
MOST_UNKNOWN_SHARE = 0.1


@dataclass(frozen=True)
class ImportGaps:
    """Figures by which to judge an import; counts refer to ops or tensors of the graph."""

    ops: int
    kernels: int
    """Ops that take time."""
    flops: float
    parameter_bytes: int
    """Parameters, buffers and optimizer state that were found."""
    has_backward: bool
    tensors: int
    unknown_shapes: int
    estimated_ops: int
    """Ops without a cost formula."""
    opaque_ops: int
    """Ops that hide work which cannot be read."""
    composite_ops: int
    folded_ops: int
    assumed_dims: Mapping[str, int]

    @property
    def unknown_share(self) -> float:
        """Share of tensors whose shape is unknown."""
        return self.unknown_shapes / max(self.tensors, 1)

    @property
    def estimated_share(self) -> float:
        """Share of ops that take time and have no cost formula, or hide their work."""
        return min(1.0, (self.estimated_ops + self.opaque_ops) / max(self.kernels, 1))

    @property
    def is_complete(self) -> bool:
        """Whether nothing was guessed, assumed or missing."""
        unknown = self.unknown_shapes + self.estimated_ops + self.opaque_ops + self.composite_ops
        return not unknown and not self.assumed_dims and not self.lacks_parameters

    @property
    def lacks_parameters(self) -> bool:
        """Whether it is a training step in which no parameter was found."""
        return self.has_backward and self.parameter_bytes == 0

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        return {
            "flops": self.flops,
            "parameter_bytes": self.parameter_bytes,
            "unknown_shapes": self.unknown_shapes,
            "unknown_share": self.unknown_share,
            "estimated_ops": self.estimated_ops,
            "opaque_ops": self.opaque_ops,
            "estimated_share": self.estimated_share,
            "composite_ops": self.composite_ops,
            "folded_ops": self.folded_ops,
            "assumed_dims": dict(self.assumed_dims),
            "complete": self.is_complete,
        }

    def sentence(self) -> str:
        """One line for people, with the flag that settles each gap."""
        found = f"{_flops_text(self.flops)}, {self.parameter_bytes / 1e6:.4g} MB of parameters"
        parts = []
        if self.assumed_dims:
            shown = [f"{name}={size}" for name, size in list(self.assumed_dims.items())[:3]]
            more = f" and {len(self.assumed_dims) - 3} more" if len(self.assumed_dims) > 3 else ""
            parts.append(f"assumed {', '.join(shown)}{more} (set with --dim)")
        if self.unknown_shapes:
            parts.append(
                f"{self.unknown_shapes} of {self.tensors} tensors have no known shape "
                f"({self.unknown_share:.1%}; bind open dimensions with --dim)"
            )
        if self.estimated_ops:
            parts.append(f"{self.estimated_ops} of {self.kernels} kernels have no cost formula")
        if self.opaque_ops:
            parts.append(f"{self.opaque_ops} ops hide their work")
        if self.composite_ops:
            parts.append(f"{self.composite_ops} loops, branches or modules are one op each")
        if self.lacks_parameters:
            parts.append("a training step without a parameter: weights given as inputs?")
        if not parts:
            return f"import: {found}; nothing was guessed"
        return f"import: {found}; {'; '.join(parts)} (`graphwright graphs show` says which)"


def _flops_text(flops: float) -> str:
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops:,.0f} FLOP"


def import_gaps(graph: Graph) -> ImportGaps:
    """Weigh a graph's import report; linear in the graph's size."""
    report = graph.report
    free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
    weights = graph.tensor_storage == Storage.WEIGHT
    return ImportGaps(
        ops=graph.op_count,
        kernels=int((~free).sum()),
        flops=float(graph.flops.sum()),
        parameter_bytes=int(graph.resident_bytes.sum() + graph.tensor_bytes[weights].sum()),
        has_backward=bool((graph.phases == Phase.BACKWARD).any()),
        tensors=int((graph.tensor_storage != Storage.CONTROL).sum()),
        unknown_shapes=len(report.unknown_shapes),
        estimated_ops=sum(report.estimated_ops.values()),
        opaque_ops=sum(report.opaque_ops.values()),
        composite_ops=sum(report.composite_ops.values()),
        folded_ops=sum(report.folded_ops.values()),
        assumed_dims=report.assumed_dims,
    )


def check_known(graph: Graph, origin: str) -> None:
    """Refuse a graph of which too little is known to plan with.

    Raises:
        ModelError: more than `MOST_UNKNOWN_SHARE` of its tensors have no known shape.
    """
    gaps = import_gaps(graph)
    if gaps.unknown_share > MOST_UNKNOWN_SHARE:
        names = ", ".join(repr(name) for name in graph.report.unknown_shapes[:3])
        raise ModelError(
            f"{origin}: {gaps.unknown_shapes} of {gaps.tensors} tensors have no known shape "
            f"({gaps.unknown_share:.0%}; at most {MOST_UNKNOWN_SHARE:.0%} are let through), such "
            f"as {names}; bind open dimensions (--dim NAME=SIZE), save the model with its shapes, "
            "or allow it (--allow-unknown) and take every figure with care"
        )
