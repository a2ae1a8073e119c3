"""How often the bodies of torch's higher-order operators run."""

from collections.abc import Mapping, Sequence
from math import ceil, log2

from graphs.costs.work import TensorSpec, Work, repeated
from graphs.importers.torch_models.calls import ExportedOp

_WHILE = frozenset({"while_loop", "while_loop_stack_output"})
#: Operators that run their body for each slice of an argument, and that argument's position.
_SLICED = {"scan": "2", "map_impl": "1", "map": "1", "associative_scan": "1", "foreach_map": ""}
_BRANCHES = frozenset({"cond", "switch"})

#: Operators whose bodies do not run once: loops and branches.
REPEATED = frozenset(_SLICED) | _WHILE | _BRANCHES

#: Operators whose bodies run for every score of an attention.
SCORED = frozenset({"flex_attention", "flex_attention_backward"})

_UNCOUNTED = "Loops that end on a condition count condition and body once, their trips are unknown"
_DEAREST = "Branches cost what their dearest side does"


def control_flow_work(
    op: ExportedOp, specs: Mapping[str, TensorSpec], bodies: Sequence[Sequence[Work]]
) -> tuple[Work, str | None]:
    """The work of a loop or a branch from the works of its bodies' ops, and what was assumed.

    A scan and a map run once for each slice of what they go over. An associative scan combines
    neighbours in about `2 log2(n)` passes, with one combination for each slice altogether. A
    `while_loop` runs as often as its data say.
    """
    base = op.base_name
    if base in _WHILE:
        return repeated([work for body in bodies for work in body]), _UNCOUNTED
    if base in _SLICED:
        trips = _slices(op, specs)
        if trips is None:
            return repeated([work for body in bodies for work in body]), _UNCOUNTED
        work = repeated([work for body in bodies for work in body], trips)
        if base == "associative_scan":
            passes = 2 * ceil(log2(max(trips, 2)))
            kernels = repeated([work for body in bodies for work in body], passes).launches
            work = Work(
                work.flops, work.bytes_read, work.bytes_written, work.workspace_bytes, kernels
            )
        return work, None
    alternatives = [repeated(body) for body in bodies]
    dearest = max(alternatives, key=lambda work: (work.flops, work.bytes_read + work.bytes_written))
    return dearest, _DEAREST


def _slices(op: ExportedOp, specs: Mapping[str, TensorSpec]) -> int | None:
    """The leading size of what the operator goes over; None where it says nothing."""
    wanted = _SLICED[op.base_name]
    for label, group in op.arguments:
        if label == wanted:
            sizes = [specs[name].shape[0] for name in group if specs[name].shape]
            return max(sizes, default=None)
    return None
