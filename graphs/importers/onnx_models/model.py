"""Imports ONNX models: each node an op, each tensor an edge, no weight ever needed.

Weights read by one op are resident bytes of that op; weights read by several become a VARIABLE
op whose tensor is resident wherever it is read. Operands of at most `TINY_BYTES` count with each
of their readers instead: an axis or a target shape is an attribute in all but name. `Constant`
nodes are treated like weights, and so is what depends on weights alone: it is computed once, when
a runtime loads the model, so that it is no op here but a weight as large as the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.costs.onnx_movement import ALIASING
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.onnx_models.analysis import Scope
from graphs.importers.onnx_models.context import ImportContext, standard_domain
from graphs.importers.onnx_models.dims import Binding
from graphs.importers.onnx_models.file import parse_onnx
from graphs.importers.onnx_models.steps import OnnxStep, OnnxSteps, onnx_steps
from graphs.importers.onnx_models.values import TINY_BYTES
from graphs.kinds import OpKind, Phase, Storage


def import_onnx(path: Path, dims: Mapping[str, int]) -> Graph:
    """Read an ONNX model file; weights in other files are not opened.

    Args:
        path: a `.onnx` file, or its text form (`.onnxtxt`, `.textproto`).
        dims: sizes of symbolic dimensions by name; an unnamed one is `input[axis]`.

    Raises:
        ModelError: not a readable ONNX model, weights outside its folder, an unknown dimension,
            shapes that do not fit, a cycle, or a tensor without or with two producers.
    """
    return import_onnx_model(parse_onnx(path), dims, str(path), folder=path.parent)


def import_onnx_model(
    model: ModelProto, dims: Mapping[str, int], name: str, *, folder: Path | None = None
) -> Graph:
    """Turn a model in memory into a `Graph`; the model is not changed.

    Args:
        model: any IR version and opset that the installed onnx reads.
        dims: sizes of symbolic dimensions by name; an unnamed one is `input[axis]`.
        name: the graph's name, and the origin that messages name.
        folder: where small external weights may be read; None reads none.

    Raises:
        ModelError: as for `import_onnx`.
    """
    return _build(onnx_steps(model, dims, name, folder), dims)


#: Ops that read the shape of a tensor, which is known, and never its data.
_SHAPE_READERS = frozenset({"Shape", "Size"})


def _build(model: OnnxSteps, dims: Mapping[str, int]) -> Graph:
    """Assemble the ops; Constant nodes that are themselves model outputs become ops as well."""
    steps, binding, weights, context = model.steps, model.binding, model.weights, model.context
    builder = GraphBuilder(context.origin)
    readers = Counter(name for step in steps for name in _reads(step, model))
    taken = {step.name for step in steps}
    inputs = {n: v for n, v in binding.inputs.items() if n not in model.parameters}
    unused = [name for name in inputs if name not in readers]
    makers: dict[str, str] = {}
    for name, value in inputs.items():
        if name in readers:
            output = OutputTensor(name, value.bytes)
            makers[name] = _free_name(name, taken)
            builder.add(
                OpRecord(
                    name=makers[name],
                    op_type="Input",
                    kind=OpKind.INPUT,
                    outputs=[output],
                    dtype=value.spec.dtype,
                    output_shape=value.spec.shape,
                )
            )
    if unused:
        context.note(f"{len(unused)} inputs are read by no op and left out.")
    shared = {
        name
        for name, value in weights.items()
        if readers[name] > 1 and value.spec.bytes > TINY_BYTES
    }
    phases: dict[str, Phase] = {}
    pending = set(shared)
    for step in steps:
        for name in [name for name in _reads(step, model) if name in pending]:
            pending.discard(name)
            builder.add(_variable(name, weights, _weight_type(name, model), taken))
        phase = max([step.analysis.phase, *(phases.get(name, 0) for name in step.reads)])
        phases.update(dict.fromkeys(step.analysis.outputs, Phase(phase)))
        record = _record(step, _reads(step, model), weights, shared, Phase(phase))
        if step.node.op_type in _SHAPE_READERS and not standard_domain(step.node.domain):
            record = _waiting_only(record, makers)
        builder.add(record)
        makers.update(dict.fromkeys(step.analysis.outputs, step.name))
    for name in [name for name in model.outputs if name in model.constants]:
        if name not in shared or name in pending:
            builder.add(_variable(name, weights, "Constant", taken))
    if not any(record.kind != OpKind.INPUT for record in builder.records):
        raise ModelError(
            f"{context.origin}: no op contributes to the outputs; a model needs at least one"
        )
    return builder.build(_report(binding, context, dims))


def _free_name(wanted: str, taken: set[str]) -> str:
    """A name that no op has; a tensor may be called like a node."""
    name = wanted
    while name in taken:
        name += "#tensor"
    taken.add(name)
    return name


def _reads(step: OnnxStep, model: OnnxSteps) -> list[str]:
    """What a step reads, each weight under one name."""
    return list(dict.fromkeys(model.same_weight(name) for name in step.reads))


def _weight_type(name: str, model: OnnxSteps) -> str:
    if name in model.folded:
        return "FoldedConstant"
    return "Constant" if name in model.constants else "Initializer"


def _variable(name: str, weights: Scope, op_type: str, taken: set[str]) -> OpRecord:
    spec = weights[name].spec
    return OpRecord(
        name=_free_name(name, taken),
        op_type=op_type,
        kind=OpKind.VARIABLE if op_type == "Initializer" else OpKind.CONSTANT,
        outputs=[OutputTensor(name, spec.bytes, Storage.WEIGHT)],
        dtype=spec.dtype,
        output_shape=spec.shape,
    )


def _record(
    step: OnnxStep, reads: Sequence[str], weights: Scope, shared: set[str], phase: Phase
) -> OpRecord:
    analysis = step.analysis
    own = [name for name in reads if name in weights and name not in shared]
    outputs = [OutputTensor(name, value.bytes) for name, value in analysis.outputs.items()]
    source = next(iter(reads), "") if next(iter(step.node.input), "") else ""
    if analysis.kind == OpKind.VIEW and step.node.op_type in ALIASING and outputs and source:
        outputs[0] = (
            replace(outputs[0], storage=Storage.RESIDENT)
            if source in own
            else replace(outputs[0], storage=Storage.ALIAS, alias_of=source)
        )
    first = next(iter(analysis.outputs.values()), None)
    domain = standard_domain(step.node.domain)
    return OpRecord(
        name=step.name,
        op_type=f"{domain}.{step.node.op_type}" if domain else step.node.op_type,
        kind=analysis.kind,
        inputs=[name for name in reads if name not in own],
        outputs=outputs,
        phase=phase,
        dtype=analysis.dtype,
        flops=analysis.work.flops,
        bytes_read=analysis.work.bytes_read,
        bytes_written=analysis.work.bytes_written,
        resident_bytes=analysis.inner_bytes + sum(weights[name].spec.bytes for name in own),
        workspace_bytes=analysis.work.workspace_bytes,
        launches=analysis.work.launches,
        output_shape=first.spec.shape if first is not None else (),
    )


def _waiting_only(record: OpRecord, makers: Mapping[str, str]) -> OpRecord:
    """The op held to its inputs by control edges: runtimes know a shape without the data."""
    waits = [makers[name] for name in record.inputs if name in makers]
    return replace(record, inputs=(), control_inputs=waits)


def _report(binding: Binding, context: ImportContext, dims: Mapping[str, int]) -> ImportReport:
    if binding.unknown:
        context.note("Inputs without a shape are counted as one element.")
    if context.unknown_shapes:
        context.note("Tensors of unknown shape are taken to be as large as their op's first input.")
    inputs = binding.inputs.values()
    if any(value.given_type is not None and value.elements is None for value in inputs):
        context.note("Sequences of unknown length count as one of their tensors.")
    if context.body_bytes:
        context.note(
            f"{context.body_bytes:,} bytes of weights lie inside control-flow bodies; they are "
            "resident with the op that holds the body."
        )
    if context.folded:
        count = sum(context.folded.values())
        context.note(
            f"{count} ops depend on constants alone: they are computed once, when the model is "
            "loaded, and their results count as weights."
        )
    return ImportReport(
        source_format="onnx",
        assumed_dims=dict(binding.assumed),
        bound_dims=dict(dims),
        unknown_shapes=(*binding.unknown, *context.unknown_shapes),
        estimated_ops=dict(sorted(context.estimated.items())),
        composite_ops=dict(sorted(context.composite.items())),
        opaque_ops=dict(sorted(context.opaque.items())),
        folded_ops=dict(sorted(context.folded.items())),
        notes=tuple(context.notes),
    )
