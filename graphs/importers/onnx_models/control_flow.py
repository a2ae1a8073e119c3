"""ONNX control flow as single ops: a branch, or a body times its trip count."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto

from graphs.costs.work import TensorSpec, Work, repeated
from graphs.errors import ModelError
from graphs.importers.onnx_models.context import ImportContext
from graphs.importers.onnx_models.sequences import element, grown, sequence_value
from graphs.importers.onnx_models.topology import bodies_of
from graphs.importers.onnx_models.values import OnnxValue, checked_spec
from graphs.kinds import DType

#: Exporters write "for ever" as a huge trip count; the loop then ends by its condition.
_LONGEST_LOOP = 1_000_000


@dataclass(frozen=True)
class BodyCost:
    """One pass through a body: its work launches every kernel of it once."""

    work: Work
    resident_bytes: int
    """Weights stored inside the body."""
    outputs: Sequence[OnnxValue]


@dataclass(frozen=True)
class Composite:
    """A control-flow node as a whole."""

    work: Work
    resident_bytes: int
    outputs: Mapping[str, OnnxValue]


RunBody = Callable[[GraphProto, Mapping[str, OnnxValue]], BodyCost]
Inputs = Sequence[OnnxValue | None]
Attributes = Mapping[str, Any]


def run_control_flow(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    attributes: Attributes,
    context: ImportContext,
    run: RunBody,
) -> Composite:
    """Cost a control-flow node by its bodies.

    Args:
        node: an `If`, `Loop`, `Scan` or `SequenceMap`.
        label: its unique name, for messages.
        inputs: its explicit inputs; bodies see the outer scope by themselves.
        attributes: its attributes without the bodies.
        context: collects what had to be assumed.
        run: costs a body, given the values of its inputs.

    Raises:
        ModelError: a body is missing or takes another number of inputs or outputs.
    """
    context.composite[node.op_type] += 1
    bodies = dict(bodies_of(node))
    match node.op_type:
        case "If":
            branches = [
                _body(bodies, key, label, context) for key in ("then_branch", "else_branch")
            ]
            return _choose(node, label, branches, inputs, context, run)
        case "Loop":
            body = _body(bodies, "body", label, context)
            return _loop(node, label, body, inputs, context, run)
        case "Scan":
            body = _body(bodies, "body", label, context)
            return _scan(node, label, body, inputs, attributes, context, run)
    return _map_sequence(node, label, _body(bodies, "body", label, context), inputs, context, run)


def _body(
    bodies: Mapping[str, GraphProto], key: str, label: str, context: ImportContext
) -> GraphProto:
    if key not in bodies:
        raise ModelError(f"{context.origin}: op {label!r} lacks its {key!r}")
    return bodies[key]


def _choose(
    node: NodeProto,
    label: str,
    branches: Sequence[GraphProto],
    inputs: Inputs,
    context: ImportContext,
    run: RunBody,
) -> Composite:
    condition = inputs[0].constant if inputs and inputs[0] is not None else None
    if condition is not None and condition.size == 1:
        # The other branch need not even have valid shapes here.
        taken = run(branches[0] if condition.any() else branches[1], {})
        return Composite(
            taken.work, taken.resident_bytes, _name(node, taken.outputs, label, context)
        )
    costs = [run(branch, {}) for branch in branches]
    taken = max(costs, key=_weight)
    other = costs[0] if taken is costs[1] else costs[1]
    context.note("Each If with an open condition is costed by its costlier branch.")
    values = [
        replace(_variable(a), assumed=a.assumed or a.specs != b.specs)
        for a, b in zip(taken.outputs, other.outputs, strict=False)
    ]
    resident = sum(cost.resident_bytes for cost in costs)
    return Composite(taken.work, resident, _name(node, values, label, context))


def _weight(cost: BodyCost) -> tuple[float, float]:
    return cost.work.flops, cost.work.bytes_read + cost.work.bytes_written


def _loop(
    node: NodeProto,
    label: str,
    body: GraphProto,
    inputs: Inputs,
    context: ImportContext,
    run: RunBody,
) -> Composite:
    limit = inputs[0].constant if inputs and inputs[0] is not None else None
    trips = int(limit.reshape(-1)[0]) if limit is not None and limit.size == 1 else None
    known = trips is not None and 0 <= trips <= _LONGEST_LOOP
    count = trips if known and trips is not None else 1
    if not known:
        context.note(f"Loop {label!r} has no known trip count; it is costed as one trip.")
    counter = OnnxValue(TensorSpec((), DType.INT64), int(TensorProto.INT64))
    condition = OnnxValue(TensorSpec((), DType.BOOL), int(TensorProto.BOOL))
    carried = [_variable(value) for value in inputs[2:]]
    result = run(body, _pair_up(body, [counter, condition, *carried], label, context))
    after = list(result.outputs[1 : 1 + len(carried)])
    after = [grown(b, a, count) for a, b in zip(after, carried, strict=False)]
    changed = any(
        a.spec != b.spec for a, b in zip(after, carried, strict=False) if a.elements is None
    )
    if changed:
        context.note(f"Loop {label!r} changes the shapes it carries; those of one trip are used.")
    outputs = [replace(_variable(v), assumed=v.assumed or changed) for v in after]
    outputs.extend(
        _stack(label, value, 0, count, assumed=not known)
        for value in result.outputs[1 + len(carried) :]
    )
    return Composite(
        repeated([result.work], count), result.resident_bytes, _name(node, outputs, label, context)
    )


def _scan(
    node: NodeProto,
    label: str,
    body: GraphProto,
    inputs: Inputs,
    attributes: Attributes,
    context: ImportContext,
    run: RunBody,
) -> Composite:
    batched = context.opset("") == 8  # only there: sequence lengths first, then a batch axis
    values = [_variable(value) for value in (inputs[1:] if batched else inputs)]
    scanned = attributes.get("num_scan_inputs", 0)
    if not 1 <= scanned <= len(values):
        raise ModelError(
            f"{context.origin}: Scan {label!r} states num_scan_inputs={scanned} of {len(values)} "
            "inputs; expected at least 1"
        )
    states, sequences = values[:-scanned], values[-scanned:]
    axes = attributes.get("scan_input_axes") or [1 if batched else 0] * scanned
    slices = [_without(label, v, a, context) for v, a in zip(sequences, axes, strict=False)]
    if len(slices) < scanned:
        raise ModelError(f"{context.origin}: Scan {label!r} has too few scan_input_axes")
    trips = slices[0][1]
    parts = [value for value, _ in slices]
    batch = 1
    if batched:
        batch = _without(label, sequences[0], 0, context)[1]
        states = [_without(label, value, 0, context)[0] for value in states]
        parts = [_without(label, value, 0, context)[0] for value in parts]
    result = run(body, _pair_up(body, [*states, *parts], label, context))
    outputs = [_variable(value) for value in result.outputs[: len(states)]]
    stacked = result.outputs[len(states) :]
    out_axes = attributes.get("scan_output_axes") or [0] * len(stacked)
    for value, axis in zip(stacked, out_axes, strict=False):
        outputs.append(_stack(label, value, axis, trips, assumed=False))
    if batched:
        outputs = [_stack(label, value, 0, batch, assumed=False) for value in outputs]
    return Composite(
        repeated([result.work], trips * batch),
        result.resident_bytes,
        _name(node, outputs, label, context),
    )


def _map_sequence(
    node: NodeProto,
    label: str,
    body: GraphProto,
    inputs: Inputs,
    context: ImportContext,
    run: RunBody,
) -> Composite:
    values = [_variable(value) for value in inputs]
    first = values[0].elements if values else None
    if first is None:
        context.note(f"SequenceMap {label!r} has no known length; it is costed as one tensor.")
    trips = range(1 if first is None else len(first))
    passes: dict[tuple[TensorSpec, ...], BodyCost] = {}
    results: list[BodyCost] = []
    for trip in trips:
        parts = [
            element(value, trip if value.elements and trip < len(value.elements) else 0)
            for value in values
        ]
        key = tuple(part.spec for part in parts)
        if key not in passes:  # every size once
            passes[key] = run(body, _pair_up(body, parts, label, context))
        results.append(passes[key])
    if not results:  # an empty sequence runs nothing; the body still says what it would make
        return Composite(Work(), 0, _name(node, [sequence_value((), 1)] * len(body.output), label,
                                          context))  # fmt: skip
    outputs = [
        _as_sequence([result.outputs[i] for result in results], known=first is not None)
        for i in range(len(results[0].outputs))
    ]
    work = repeated([result.work for result in results])
    return Composite(work, results[0].resident_bytes, _name(node, outputs, label, context))


def _as_sequence(values: Sequence[OnnxValue], *, known: bool) -> OnnxValue:
    """The sequence of what each trip makes."""
    first = values[0]
    assumed = any(value.assumed for value in values)
    made = sequence_value(tuple(v.spec for v in values), first.elem_type, assumed=assumed)
    return made if known else replace(made, elements=None)


def _variable(value: OnnxValue | None) -> OnnxValue:
    """What a body sees of a value that changes from trip to trip: its shape, not its content."""
    if value is None:
        return OnnxValue(TensorSpec((), DType.BOOL), int(TensorProto.BOOL))
    return replace(value, constant=None, shape_like=False, fixed=False)


def _stack(label: str, value: OnnxValue, axis: int, count: int, *, assumed: bool) -> OnnxValue:
    """One tensor per trip, along a new axis."""
    shape = list(value.spec.shape)
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, count)
    spec = checked_spec(label, shape, value.elem_type)
    return OnnxValue(spec, value.elem_type, assumed=assumed or value.assumed)


def _without(
    label: str, value: OnnxValue, axis: int, context: ImportContext
) -> tuple[OnnxValue, int]:
    """One slice along an axis, and the number of slices."""
    shape = list(value.spec.shape)
    if not -len(shape) <= axis < len(shape):
        raise ModelError(
            f"{context.origin}: Scan {label!r} scans axis {axis} of a tensor of rank {len(shape)}"
        )
    count = shape.pop(axis)
    spec = TensorSpec(tuple(shape), value.spec.dtype)
    return OnnxValue(spec, value.elem_type, assumed=value.assumed), count


def _pair_up(
    body: GraphProto, values: Sequence[OnnxValue], label: str, context: ImportContext
) -> dict[str, OnnxValue]:
    if len(body.input) != len(values):
        raise ModelError(
            f"{context.origin}: the body of op {label!r} takes {len(body.input)} inputs but is "
            f"given {len(values)}"
        )
    return {item.name: value for item, value in zip(body.input, values, strict=True)}


def _name(
    node: NodeProto, values: Sequence[OnnxValue], label: str, context: ImportContext
) -> dict[str, OnnxValue]:
    if len(values) < len(node.output):
        raise ModelError(
            f"{context.origin}: op {label!r} has {len(node.output)} outputs but its body gives "
            f"{len(values)}"
        )
    return {name: value for name, value in zip(node.output, values, strict=False) if name}
