"""Builds a graph of an exported torch program."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.costs.work import TensorSpec, Work
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp
from graphs.importers.torch_models.inlining import inlined
from graphs.importers.torch_models.vmapped import unbatched
from graphs.importers.torch_models.work import Tally, op_cost
from graphs.importers.torch_models.writes import with_versions
from graphs.kinds import DType, OpKind, Phase, Storage

#: Tied parameters and buffers up to this size are counted once per reader.
TINY_BYTES = 64

_INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.BOOL})
_PRODUCTS = frozenset({OpKind.MATMUL, OpKind.CONV, OpKind.DEPTHWISE_CONV, OpKind.ATTENTION})


def dataflow(exported: ExportedGraph) -> ExportedGraph:
    """The program as calls that depend on each other by their operands alone.

    Regions are inlined, rows of `vmap` are whole tensors, and writes in place make versions.
    """
    return with_versions(unbatched(inlined(exported)))


def build_exported(exported: ExportedGraph, name: str, report: ImportReport) -> Graph:
    """Cost every operator and freeze the graph.

    Calls without tensor outputs (assertions, arithmetic on sizes) are left out: sizes are known.

    Raises:
        ModelError: no operators, a tensor without or with two producers, or a cycle.
    """
    exported = dataflow(exported)
    builder = GraphBuilder(name)
    tally = Tally()
    specs = {**exported.inputs, **exported.weights}
    kept, dropped = needed_ops(exported)
    readers: dict[str, int] = {}
    for op in kept:
        for source in dict.fromkeys((*op.inputs, *op.carried)):
            readers[source] = readers.get(source, 0) + 1
    for source, spec in exported.inputs.items():
        if source in readers:
            record = source_record(source, spec, "Input", OpKind.INPUT, Storage.BUFFER)
            builder.add(replace(record, colocation=exported.groups.get(source)))
    shared = {
        source
        for source, spec in exported.weights.items()
        if (readers.get(source, 0) > 1 and spec.bytes > TINY_BYTES) or source in exported.groups
        if source in readers
    }
    for source in sorted(shared):
        builder.add(weight_record(exported, source))
    for op in kept:
        builder.add(costed_record(op, specs, tally, exported.weights, shared))
    if not kept:
        raise ModelError(f"{name!r}: no operator reaches an output; a model needs at least one")
    notes = [f"{dropped} calls reach no output, left out."] if dropped else []
    return builder.build(tally.report(report, notes))


def needed_ops(exported: ExportedGraph) -> tuple[list[ExportedOp], int]:
    """Operators whose tensors reach an output or that write in place, and how many do not."""
    wanted = {*exported.outputs, *exported.mutations}
    kept: list[ExportedOp] = []
    dropped = 0
    for op in reversed(exported.ops):
        if op.written or any(name in wanted for name, _ in op.outputs):
            wanted.update(op.inputs)
            wanted.update(op.carried)
            kept.append(op)
        else:
            dropped += bool(op.outputs)
    names = {op.name for op in kept}
    kept = [replace(op, waits=[name for name in op.waits if name in names]) for op in kept]
    return kept[::-1], dropped


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


def weight_record(exported: ExportedGraph, name: str, op_type: str = "Parameter") -> OpRecord:
    """A weight that is copied wherever it is read, or a buffer that is changed: it has one home."""
    spec = exported.weights[name]
    if name not in exported.groups:
        return source_record(name, spec, op_type, OpKind.VARIABLE, Storage.WEIGHT)
    record = source_record(name, spec, "Buffer", OpKind.VARIABLE, Storage.RESIDENT)
    return replace(record, resident_bytes=spec.bytes, colocation=exported.groups[name])


def costed_record(
    op: ExportedOp,
    specs: dict[str, TensorSpec],
    tally: Tally,
    weights: Mapping[str, TensorSpec],
    shared: Set[str],
) -> OpRecord:
    """The call as an op; `specs` learns its results, and weights not `shared` are resident."""
    kind, work = op_cost(op, specs, tally)
    known = [specs[source] for source in op.inputs if source in specs]
    specs.update(op.outputs)
    specs.update({version.name: version.spec for version in op.versions})
    return _record(op, known, kind, work, weights, shared)


def _record(
    op: ExportedOp,
    known: Sequence[TensorSpec],
    kind: OpKind,
    work: Work,
    weights: Mapping[str, TensorSpec],
    shared: Set[str],
) -> OpRecord:
    names = list(dict.fromkeys((*op.inputs, *op.carried)))
    own = [name for name in names if name in weights and name not in shared]
    storage, source = Storage.BUFFER, None
    if op.written or (op.is_view and kind == OpKind.VIEW):
        first = op.written[0] if op.written else op.inputs[0]
        storage = Storage.RESIDENT if first in own else Storage.ALIAS
        source = None if first in own else first
    outputs = [OutputTensor(name, spec.bytes, storage, source) for name, spec in op.outputs]
    outputs += [
        OutputTensor(version.name, version.spec.bytes, Storage.ALIAS, version.of)
        for version in op.versions
    ]
    results = [spec for _, spec in op.outputs] or [version.spec for version in op.versions]
    produced = results[0] if results else TensorSpec(())
    return OpRecord(
        name=op.name,
        op_type=op.target,
        kind=kind,
        inputs=[name for name in names if name not in own],
        outputs=outputs,
        control_inputs=op.waits,
        phase=Phase.BACKWARD if "backward" in op.base_name else Phase.FORWARD,
        dtype=_compute_type(kind, known, produced),
        flops=work.flops,
        bytes_read=work.bytes_read,
        bytes_written=work.bytes_written,
        workspace_bytes=work.workspace_bytes,
        resident_bytes=sum(weights[name].bytes for name in own),
        launches=max(work.launches, 1),
        output_shape=produced.shape,
        colocation=op.colocation,
    )


def _compute_type(kind: OpKind, known: Sequence[TensorSpec], produced: TensorSpec) -> DType:
    """The first operand's floating-point type; autocast computes products in the result's."""
    floats = [spec.dtype for spec in known if spec.dtype not in _INTEGERS]
    if not floats:
        return produced.dtype
    if kind in _PRODUCTS and produced.dtype not in _INTEGERS:
        return min(floats[0], produced.dtype, key=lambda dtype: dtype.element_bytes)
    return floats[0]
