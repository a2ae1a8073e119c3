"""An exported torch program, free of torch: what both the file and the memory form become."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.costs.aten_ops import ATEN_VIEWS, TRAINING_DROPOUT, aten_cost
from graphs.costs.onnx_ops import ESTIMATE, estimate_work, refined_kind
from graphs.costs.work import OpCost, Signature, TensorSpec, Work
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage

#: Tied parameters and buffers up to this size are counted once per reader.
TINY_BYTES = 64

_FORMULA_ERRORS = (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError)
_DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout"})
_INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.BOOL})


@dataclass(frozen=True)
class ExportedOp:
    """One call of an operator; operands are tensor names."""

    name: str
    target: str
    """As torch prints it, without `torch.ops.`: `aten.linear.default`."""
    inputs: Sequence[str]
    outputs: Sequence[tuple[str, TensorSpec]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bodies: Sequence["ExportedGraph"] = ()
    """The branches or the body of a higher-order operator."""


@dataclass(frozen=True)
class ExportedGraph:
    """A program or a body of one, with every dimension a number."""

    inputs: Mapping[str, TensorSpec]
    """What the caller passes; tensors only."""
    weights: Mapping[str, TensorSpec]
    """Parameters, buffers and lifted constants."""
    ops: Sequence[ExportedOp]
    outputs: Sequence[str]


def build_exported(exported: ExportedGraph, name: str, report: ImportReport) -> Graph:
    """Cost every operator and freeze the graph.

    Calls without tensor outputs (assertions, arithmetic on sizes) are left out: sizes are known.

    Raises:
        ModelError: no operators, a tensor without or with two producers, or a cycle.
    """
    builder = GraphBuilder(name)
    estimates: dict[str, int] = {}
    composites: dict[str, int] = {}
    specs = {**exported.inputs, **exported.weights}
    kept, dropped = needed_ops(exported)
    readers: dict[str, int] = {}
    for op in kept:
        for source in dict.fromkeys(op.inputs):
            readers[source] = readers.get(source, 0) + 1
    for source, spec in exported.inputs.items():
        if source in readers:
            builder.add(source_record(source, spec, "Input", OpKind.INPUT, Storage.BUFFER))
    shared = {
        source
        for source, spec in exported.weights.items()
        if readers.get(source, 0) > 1 and spec.bytes > TINY_BYTES
    }
    for source in sorted(shared):
        spec = specs[source]
        builder.add(source_record(source, spec, "Parameter", OpKind.VARIABLE, Storage.WEIGHT))
    for op in kept:
        known = [specs[source] for source in op.inputs if source in specs]
        specs.update(op.outputs)
        cost, work = op_cost(op, known, estimates, composites)
        builder.add(op_record(op, known, cost, work, exported.weights, shared))
    if not kept:
        raise ModelError(f"{name!r}: no operator reaches an output; a model needs at least one")
    notes = (*report.notes, *([f"{dropped} calls reach no output, left out."] if dropped else []))
    complete = ImportReport(
        source_format=report.source_format,
        assumed_dims=report.assumed_dims,
        bound_dims=report.bound_dims,
        estimated_ops=dict(sorted(estimates.items())),
        composite_ops=dict(sorted(composites.items())),
        notes=notes,
    )
    return builder.build(complete)


def needed_ops(exported: ExportedGraph) -> tuple[list[ExportedOp], int]:
    """Operators whose tensors reach an output, and how many do not."""
    wanted = set(exported.outputs)
    kept: list[ExportedOp] = []
    dropped = 0
    for op in reversed(exported.ops):
        if any(name in wanted for name, _ in op.outputs) or _mutates(op):
            wanted.update(op.inputs)
            kept.append(op)
        else:
            dropped += bool(op.outputs)
    return kept[::-1], dropped


def _mutates(op: ExportedOp) -> bool:
    """An in-place call has an effect even where nobody reads its result."""
    return _base_name(op.target).endswith("_") and bool(op.outputs)


def source_record(
    name: str, spec: TensorSpec, op_type: str, kind: OpKind, storage: Storage
) -> OpRecord:
    """An op without inputs that makes one tensor."""
    return OpRecord(
        name=name,
        op_type=op_type,
        kind=kind,
        outputs=[OutputTensor(name, spec.bytes, storage)],
        dtype=spec.dtype,
        output_shape=spec.shape,
    )


def _base_name(target: str) -> str:
    """`aten.add_.Tensor` is `add_`; operators of other namespaces keep theirs."""
    parts = target.split(".")
    if parts[0] == "aten" and len(parts) > 1:
        return parts[1]
    return target


def op_cost(
    op: ExportedOp,
    known: Sequence[TensorSpec],
    estimates: dict[str, int],
    composites: dict[str, int],
) -> tuple[OpKind, Work]:
    """Kind and work of a call; `estimates` and `composites` count ops without a formula."""
    if op.bodies:
        composites[op.target] = composites.get(op.target, 0) + 1
        works = [_body_work(body, estimates, composites) for body in op.bodies]
        return OpKind.CONTROL_FLOW, max(works, key=lambda work: (work.flops, work.bytes_read))
    base = _base_name(op.target)
    signature = Signature(base, known, [spec for _, spec in op.outputs], op.attributes)
    training = base in _DROPOUTS and bool(op.attributes.get("train"))
    cost: OpCost | None = TRAINING_DROPOUT if training else aten_cost(base)
    if cost is None:
        estimates[op.target] = estimates.get(op.target, 0) + 1
        return OpKind.CUSTOM, estimate_work(signature)
    try:
        work = cost.formula(signature)
    except _FORMULA_ERRORS:
        estimates[op.target] = estimates.get(op.target, 0) + 1
        work = ESTIMATE.formula(signature)
    attributes = {**op.attributes, "group": op.attributes.get("groups", 1)}
    return refined_kind(cost, Signature(base, known, signature.outputs, attributes)), work


def _body_work(body: ExportedGraph, estimates: dict[str, int], composites: dict[str, int]) -> Work:
    specs = {**body.inputs, **body.weights}
    flops = read = written = 0.0
    for op in body.ops:
        known = [specs[source] for source in op.inputs if source in specs]
        specs.update(op.outputs)
        if op.outputs:
            _, work = op_cost(op, known, estimates, composites)
            flops += work.flops
            read += work.bytes_read
            written += work.bytes_written
    return Work(flops, read, written)


def op_record(
    op: ExportedOp,
    known: Sequence[TensorSpec],
    kind: OpKind,
    work: Work,
    weights: Mapping[str, TensorSpec],
    shared: Set[str],
) -> OpRecord:
    """The call as an op; weights that are not `shared` are resident bytes of it."""
    base = _base_name(op.target)
    names = list(dict.fromkeys(op.inputs))
    own = [name for name in names if name in weights and name not in shared]
    storage, source = Storage.BUFFER, None
    in_place = base.endswith("_") and op.target.startswith("aten.")
    if op.inputs and ((base in ATEN_VIEWS and kind == OpKind.VIEW) or in_place):
        first = op.inputs[0]
        storage = Storage.RESIDENT if first in own else Storage.ALIAS
        source = None if first in own else first
    outputs = [OutputTensor(name, spec.bytes, storage, source) for name, spec in op.outputs]
    floats = [spec.dtype for spec in known if spec.dtype not in _INTEGERS]
    produced = op.outputs[0][1] if op.outputs else TensorSpec(())
    return OpRecord(
        name=op.name,
        op_type=op.target,
        kind=kind,
        inputs=[name for name in names if name not in own],
        outputs=outputs,
        phase=Phase.BACKWARD if "backward" in base else Phase.FORWARD,
        dtype=floats[0] if floats else produced.dtype,
        flops=work.flops,
        bytes_read=work.bytes_read,
        bytes_written=work.bytes_written,
        resident_bytes=sum(weights[name].bytes for name in own),
        launches=work.launches,
        output_shape=produced.shape,
    )
