"""Imports ONNX models: each node an op, each tensor an edge, no weight ever needed.

Weights read by one op are resident bytes of that op; weights read by several become a VARIABLE
op whose tensor is resident wherever it is read. Operands of at most `TINY_BYTES` count with each
of their readers instead: an axis or a target shape is an attribute in all but name. `Constant`
nodes are treated like weights.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, OperatorSetIdProto, inliner

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.costs.onnx_movement import ALIASING
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.onnx_analysis import (
    NodeAnalysis,
    Scope,
    analyse_node,
    collect_weights,
)
from graphs.importers.onnx_context import ImportContext, standardised
from graphs.importers.onnx_dims import Binding, bind_inputs, stated_dims, tensor_type
from graphs.importers.onnx_file import check_external_data, check_model, read_onnx
from graphs.importers.onnx_gradient import gradient_work, is_gradient
from graphs.importers.onnx_topology import needed_nodes, node_names, ordered_nodes, read_names
from graphs.importers.onnx_values import constant_node_value
from graphs.kinds import OpKind, Phase, Storage

#: Shared weights up to this size are counted once per reader instead of becoming an op.
TINY_BYTES = 64


def import_onnx(path: Path, dims: Mapping[str, int]) -> Graph:
    """Read an ONNX model file; weights in other files are not opened.

    Args:
        path: a `.onnx` file, or its text form (`.onnxtxt`, `.textproto`).
        dims: sizes of symbolic dimensions by name; an unnamed one is `input[axis]`.

    Raises:
        ModelError: not a readable ONNX model, weights outside its folder, an unknown dimension,
            shapes that do not fit, a cycle, or a tensor without or with two producers.
    """
    return import_onnx_model(read_onnx(path), dims, str(path), folder=path.parent)


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
    try:
        check_model(model, name)
        check_external_data(model, folder, name)
        return _import(model, *_inlined(model, name), dims, name, folder)
    except (DecodeError, UnicodeDecodeError) as error:
        # Protobuf checks text and nested messages only when they are touched.
        raise ModelError(f"{name}: damaged ONNX model ({error})") from error
    except RecursionError as error:
        raise ModelError(f"{name}: control flow is nested too deeply to be read") from error


def _inlined(
    model: ModelProto, origin: str
) -> tuple[Sequence[NodeProto], Sequence[OperatorSetIdProto]]:
    """The model's nodes with calls of local functions replaced by their bodies, and the opsets.

    Weights may be gigabytes, so that they are declared to the inliner and not copied.
    """
    if not model.functions:
        return model.graph.node, model.opset_import
    graph = model.graph
    light = ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
        graph=GraphProto(name=graph.name or "graph", node=graph.node, output=graph.output),
    )
    light.graph.input.extend(graph.input)
    declared = {value.name for value in graph.input}
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in declared
    )
    try:
        flat = inliner.inline_local_functions(light)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{origin}: its functions cannot be inlined ({error})") from error
    return flat.graph.node, flat.opset_import


#: Ops that read the shape of a tensor, which is known, and never its data.
_SHAPE_READERS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class _Step:
    """One needed node and what is known of it."""

    name: str
    node: NodeProto
    reads: Sequence[str]
    analysis: NodeAnalysis


def _import(
    model: ModelProto,
    all_nodes: Sequence[NodeProto],
    imports: Sequence[OperatorSetIdProto],
    dims: Mapping[str, int],
    origin: str,
    folder: Path | None,
) -> Graph:
    graph = model.graph
    opsets = {standardised(item.domain): item.version for item in imports} or {"": 1}
    context = ImportContext(origin, opsets, model.ir_version, folder)
    weights: Scope = {}
    collect_weights(graph, weights, context)
    weight_types = dict.fromkeys(weights, "Initializer")
    nodes = []
    for node in all_nodes:
        if node.op_type == "Constant" and not standardised(node.domain) and len(node.output) == 1:
            _refuse_second_producer(node.output[0], weights, origin)
            weights[node.output[0]] = constant_node_value(node, folder)
            weight_types[node.output[0]] = "Constant"
        else:
            nodes.append(node)
    inputs = [value for value in graph.input if value.name not in weights]
    binding = bind_inputs(inputs, dims, origin)
    context.assumed_dims = binding.assumed
    context.declared = _declared(graph, binding.sizes)
    names = node_names(nodes)
    available = [value.name for value in inputs] + list(weights)
    order = ordered_nodes(nodes, names, available, origin)
    nodes, names = [nodes[i] for i in order], [names[i] for i in order]
    needed = needed_nodes(nodes, [value.name for value in graph.output], origin, available)
    scope: Scope = {**binding.inputs, **weights}
    steps: list[_Step] = []
    for node, name, wanted in zip(nodes, names, needed, strict=True):
        if wanted:
            analysis = analyse_node(node, name, scope, context)
            if is_gradient(node):
                earlier = [(s.reads, list(s.analysis.outputs), s.analysis.work) for s in steps]
                analysis = replace(analysis, work=gradient_work(node, earlier))
                context.composite["Gradient"] += 1
            scope.update(analysis.outputs)
            steps.append(_Step(name, node, read_names(node), analysis))
    _note_oddities(model, nodes, names, needed, context)
    given = [v.name for v in graph.output if weight_types.get(v.name) == "Constant"]
    return _build(steps, binding, weights, weight_types, given, context, dims)


def _refuse_second_producer(name: str, weights: Scope, origin: str) -> None:
    if name in weights:
        raise ModelError(
            f"{origin}: tensor {name!r} is produced more than once; each needs exactly one producer"
        )


def _declared(
    graph: GraphProto, sizes: Mapping[str, int]
) -> dict[str, tuple[int, list[int | None]]]:
    """Shapes that the model states for what its nodes compute, with dimensions bound."""
    found = {}
    for value in (*graph.value_info, *graph.output):
        tensor, dims = tensor_type(value.type), stated_dims(value.type, sizes)
        if tensor is not None and dims is not None and all(d is None or d >= 0 for d in dims):
            found[value.name] = (tensor.elem_type, dims)
    return found


def _note_oddities(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    names: Sequence[str],
    needed: Sequence[bool],
    context: ImportContext,
) -> None:
    unused = needed.count(False)
    if unused:
        context.note(f"{unused} nodes reach no output and are left out.")
    renamed = sum(bool(n.name) and n.name != name for n, name in zip(nodes, names, strict=True))
    if renamed:
        context.note(f"{renamed} nodes repeat another's name; they got a #suffix.")
    if model.training_info:
        context.note("The model's training_info is not imported.")
    if context.annotated:
        context.note(f"{context.annotated} shapes come from the model's own annotations.")


def _build(
    steps: Sequence[_Step],
    binding: Binding,
    weights: Scope,
    weight_types: Mapping[str, str],
    given: Sequence[str],
    context: ImportContext,
    dims: Mapping[str, int],
) -> Graph:
    """Assemble the ops; `given` are the Constant nodes that are themselves model outputs."""
    builder = GraphBuilder(context.origin)
    readers = Counter(name for step in steps for name in step.reads)
    taken = {step.name for step in steps}
    unused = [name for name in binding.inputs if name not in readers]
    makers: dict[str, str] = {}
    for name, value in binding.inputs.items():
        if name in readers:
            output = OutputTensor(name, value.spec.bytes)
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
        for name in [name for name in step.reads if name in pending]:
            pending.discard(name)
            builder.add(_variable(name, weights, weight_types[name], taken))
        phase = max([step.analysis.phase, *(phases.get(name, 0) for name in step.reads)])
        phases.update(dict.fromkeys(step.analysis.outputs, Phase(phase)))
        record = _record(step, weights, shared, Phase(phase))
        if step.node.op_type in _SHAPE_READERS and not standardised(step.node.domain):
            record = _waiting_only(record, makers)
        builder.add(record)
        makers.update(dict.fromkeys(step.analysis.outputs, step.name))
    for name in given:
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


def _variable(name: str, weights: Scope, op_type: str, taken: set[str]) -> OpRecord:
    spec = weights[name].spec
    return OpRecord(
        name=_free_name(name, taken),
        op_type=op_type,
        kind=OpKind.CONSTANT if op_type == "Constant" else OpKind.VARIABLE,
        outputs=[OutputTensor(name, spec.bytes, Storage.WEIGHT)],
        dtype=spec.dtype,
        output_shape=spec.shape,
    )


def _record(step: _Step, weights: Scope, shared: set[str], phase: Phase) -> OpRecord:
    analysis = step.analysis
    own = [name for name in step.reads if name in weights and name not in shared]
    outputs = [OutputTensor(name, value.spec.bytes) for name, value in analysis.outputs.items()]
    source = next(iter(step.node.input), "")  # an Optional may hold nothing
    if analysis.kind == OpKind.VIEW and step.node.op_type in ALIASING and outputs and source:
        outputs[0] = (
            replace(outputs[0], storage=Storage.RESIDENT)
            if source in own
            else replace(outputs[0], storage=Storage.ALIAS, alias_of=source)
        )
    first = next(iter(analysis.outputs.values()), None)
    domain = standardised(step.node.domain)
    return OpRecord(
        name=step.name,
        op_type=f"{domain}.{step.node.op_type}" if domain else step.node.op_type,
        kind=analysis.kind,
        inputs=[name for name in step.reads if name not in own],
        outputs=outputs,
        phase=phase,
        dtype=analysis.dtype,
        flops=analysis.work.flops,
        bytes_read=analysis.work.bytes_read,
        bytes_written=analysis.work.bytes_written,
        resident_bytes=analysis.inner_bytes + sum(weights[name].spec.bytes for name in own),
        workspace_bytes=analysis.work.workspace_bytes,
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
    return ImportReport(
        source_format="onnx",
        assumed_dims=dict(binding.assumed),
        bound_dims=dict(dims),
        unknown_shapes=(*binding.unknown, *context.unknown_shapes),
        estimated_ops=dict(sorted(context.estimated.items())),
        composite_ops=dict(sorted(context.composite.items())),
        notes=tuple(context.notes),
    )
