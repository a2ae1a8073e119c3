"""Imports TensorFlow graphs: GraphDef files, SavedModels, graphs in memory."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from graphs.builder import GraphBuilder, OpRecord
from graphs.costs.tensorflow_ops import MISSING_FUNCTION, OPAQUE_OPS
from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.stablehlo.call_modules import CALL_MODULE, CallModules
from graphs.importers.tensorflow_models.bodies import Bodies
from graphs.importers.tensorflow_models.captured import reveal_captured
from graphs.importers.tensorflow_models.colocation import colocation_keys
from graphs.importers.tensorflow_models.control_flow import LOOPS, collapse_frames, frame_stacks
from graphs.importers.tensorflow_models.dimensions import Dimensions, check_dims, has_open_inputs
from graphs.importers.tensorflow_models.files import read_model
from graphs.importers.tensorflow_models.frames import Frames, Stack
from graphs.importers.tensorflow_models.functions import inline_calls, library_of, reveal_variables
from graphs.importers.tensorflow_models.lowering import chain_accumulations
from graphs.importers.tensorflow_models.nodes import (
    TensorflowNode,
    parse_nodes,
    sources,
    topological_order,
)
from graphs.importers.tensorflow_models.phases import phases_of
from graphs.importers.tensorflow_models.prune import chosen_fetches, prune
from graphs.importers.tensorflow_models.shapes import Given, Returned, Scope, infer_scope
from graphs.importers.tensorflow_models.storage import (
    kind_in_context,
    output_tensors,
    reads_static_shapes,
    resident_bytes,
)
from graphs.importers.tensorflow_models.work import WorkEstimator
from graphs.kinds import DType, OpKind


def import_tensorflow(path: Path, dims: Mapping[str, int], signature: str | None = None) -> Graph:
    """Read a GraphDef file or SavedModel folder.

    Args:
        path: `.pb`, `.pbtxt`, either gzipped, or a folder with `saved_model.pb`.
        dims: sizes for open dimensions: `batch` for leading ones, `node:axis` for any.
        signature: which signature of a SavedModel is meant; see `graphs.load`.

    Raises:
        ModelError: the file is damaged, or TensorFlow cannot make a graph of it.
    """
    model = read_model(path, signature)
    return _import(model.graph_def, str(path), path.name, model.fetches, dims, notes=model.notes)


def import_graph_def(
    graph_def: Any,
    name: str,
    fetches: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Import a GraphDef in memory, which is not changed.

    Args:
        graph_def: a `tf.compat.v1.GraphDef`.
        name: name of the graph, also used in messages.
        fetches: ops or tensors that a step computes; None: guessed, see `ImportReport.notes`.
        dims: sizes for open dimensions: `batch` for leading ones, `node:axis` for any.

    Raises:
        ModelError: TensorFlow cannot make a graph of it, or a fetch or dimension is unknown.
    """
    return _import(graph_def, name, name, fetches, dims or {})


def import_tf_graph(
    graph: Any,
    name: str,
    fetches: Sequence[Any] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Import a `tf.Graph` or a concrete function.

    Args:
        graph: a `tf.Graph`, or what `tf.function(...).get_concrete_function` returns.
        name: name of the graph, also used in messages.
        fetches: names, tensors or ops that a step computes; None: a concrete function's outputs
            and effects, otherwise guessed.
        dims: sizes for open dimensions: `batch` for leading ones, `node:axis` for any.

    Raises:
        ModelError: as `import_graph_def`.
    """
    inner: Any = getattr(graph, "graph", None)
    is_function = hasattr(inner, "control_outputs")
    if is_function:
        if fetches is None:
            fetches = [*inner.outputs, *inner.control_outputs]
        graph = inner
    names = None if fetches is None else [getattr(item, "name", item) for item in fetches]
    graph_def = graph.as_graph_def(add_shapes=True)
    if is_function:
        reveal_variables(graph_def, graph)
    return _import(graph_def, name, name, names, dims or {}, graph)


def _import(
    graph_def: Any,
    origin: str,
    name: str,
    fetches: Sequence[str] | None,
    dims: Mapping[str, int],
    live_graph: Any = None,
    notes: Sequence[str] = (),
) -> Graph:
    said = list(notes)
    library = library_of(graph_def, origin)
    nodes = parse_nodes(graph_def.node, origin)
    total = len(nodes)
    if fetches is None:
        fetches, how = chosen_fetches(nodes)
        said.append(how)
    nodes = prune(nodes, fetches, origin)
    definitions, fetches = inline_calls(
        [node.definition for node in nodes.values()], library, fetches
    )
    inlined = len(definitions) != len(nodes)
    if inlined:
        nodes = prune(parse_nodes(definitions, origin), fetches, origin)
        said.append("Function calls are inlined; their ops carry the call's name as a prefix.")
    elif len(nodes) < total:
        said.append(f"{total - len(nodes)} of {total} nodes are not part of the step.")
    if not nodes:
        raise ModelError(f"{origin}: the fetches {list(fetches)} leave no node to run")
    check_dims(dims, nodes, origin)
    nodes, shapeless = reveal_captured(nodes)
    dimensions = Dimensions(dims)
    if inlined or has_open_inputs(nodes):
        live_graph = None
    stacks = frame_stacks(nodes, origin)
    modules = CallModules(graph_def.versions, library.functions.values())
    functions = Bodies(library, graph_def.versions, dimensions, modules)
    loops = _loops(nodes, stacks, functions)
    with closing(modules.lowering):
        scope = infer_scope(
            nodes, graph_def.versions, library, dimensions, Given(), functions.result,
            functions.held, loops, live_graph,
        )  # fmt: skip
        specs = scope.specs
        estimator = WorkEstimator(library, functions, Frames(nodes, stacks, scope.values.integer))
        builder, chained = _assemble(name, scope, estimator)
    shape_ops = {record.name for record in builder.records if record.kind is OpKind.SHAPE}
    unknown = tuple(t for t in specs.unknown if t.rpartition(":")[0] not in shape_ops)
    unknown += tuple(estimator.unknown_inside)
    if chained:
        said.append(
            f"{chained} AddN ops of more than two inputs are chains of ACCUMULATE ops, as "
            "runtimes accumulate gradients one by one."
        )
    if estimator.uncounted_loops:
        said.append(
            f"{estimator.uncounted_loops} loops end on a condition: their bodies count once."
        )
    if unknown:
        said.append(
            "Sizes that TensorFlow could not infer are those of the data that enter the op, or the "
            "batch size; what is searched counts as found; unknown ranks count as 0."
        )
    said += [
        f"{count} x {op_type} hides its work, costed from its tensors: "
        f"{OPAQUE_OPS.get(op_type, MISSING_FUNCTION)}."
        for op_type, count in estimator.opaque.items()
    ]
    said += _about_modules(estimator)
    if shapeless:
        said.append(
            f"{len(shapeless)} captured variables ({shapeless[0]} and the like) have no shape in "
            "the file: write it with graph.as_graph_def(add_shapes=True)."
        )
    if specs.contradictions:
        said.append(
            f"{len(specs.contradictions)} tensors are of another shape than their _output_shapes "
            f"says ({specs.contradictions[0]} and the like): TensorFlow's inference counts."
        )
    report = ImportReport(
        source_format="tensorflow",
        assumed_dims=dimensions.assumed,
        bound_dims=dimensions.used,
        unknown_shapes=unknown,
        estimated_ops=dict(estimator.estimated),
        composite_ops=dict(estimator.composite),
        opaque_ops={
            **estimator.opaque,
            **{f"stablehlo.custom_call @{t}": n for t, n in estimator.custom_calls.items()},
        },
        notes=tuple(said),
    )
    return builder.build(report)


def _about_modules(estimator: WorkEstimator) -> list[str]:
    """What to say of StableHLO modules: how they count, what they hide, which are not read."""
    said = [
        f"The module of {name!r} cannot be read: {reason}."
        for name, reason in estimator.bodies.modules.refused.items()
    ]
    count = estimator.composite[CALL_MODULE]
    if count:
        said.append(
            f"{count} x {CALL_MODULE} is one op with the work of its StableHLO: as XLA fuses them, "
            "elementwise ops side by side are one kernel, every product, reduction or movement is "
            "one; constants inside count as parameters."
        )
    if estimator.custom_calls:
        targets = ", ".join(f"{n} x {t}" for t, n in estimator.custom_calls.items())
        said.append(
            "Custom calls in StableHLO hide their work and are costed from their tensors: "
            f"{targets}."
        )
    return said


def _loops(
    nodes: Mapping[str, TensorflowNode], stacks: Mapping[str, Stack], functions: Bodies
) -> Returned:
    """What counters are when their loops have ended, of either version."""

    def returned(node: TensorflowNode, number: int, outer: Any) -> int | None:
        if node.op_type in LOOPS:
            return functions.returned(node, number, outer)
        return Frames(nodes, stacks, outer.values.integer).exit_value(node)

    return returned


def _assemble(name: str, scope: Scope, estimator: WorkEstimator) -> tuple[GraphBuilder, int]:
    """Turn nodes with known shapes into records; also the number of sums made chains."""
    library = estimator.library
    nodes, specs = scope.nodes, scope.specs
    collapsed = collapse_frames(nodes, library.origin)
    outputs = dict(specs.outputs)
    for node in collapsed.values():
        if node.members:
            outputs[node.name] = tuple(specs.outputs[n][i] for n, i in node.exits)
    order = topological_order(collapsed, library.origin)
    kinds: dict[str, OpKind] = {}
    for node in order:
        cost = estimator.cost(node, [estimator.spec(outputs, e) for e in node.inputs])
        kinds[node.name] = kind_in_context(node, cost.kind, outputs, kinds, estimator.spec)
    phases = phases_of(order, kinds)
    keys = colocation_keys(
        order,
        lambda source, number: estimator.spec(outputs, (source, number)).dtype is DType.RESOURCE,
        library.op_def,
    )
    builder = GraphBuilder(name)
    position = {node.name: index for index, node in enumerate(order)}
    chained = 0
    for node in order:
        kind = kinds[node.name]
        inputs = [estimator.spec(outputs, endpoint) for endpoint in node.inputs]
        own = outputs[node.name]
        work = estimator.work(node, kind, inputs, own, scope)
        module = estimator.module(node, inputs)
        inside = 0 if module is None else module.cost.constant_bytes
        detached = reads_static_shapes(node, specs.incomplete)
        record = OpRecord(
            name=node.name,
            op_type=node.op_type,
            kind=kind,
            inputs=[] if detached else [f"{source}:{number}" for source, number in node.inputs],
            outputs=output_tensors(node, kind, own, library.op_def(node.op_type)),
            control_inputs=list(dict.fromkeys(sources(node))) if detached else node.controls,
            phase=phases[node.name],
            dtype=_compute_type(inputs, own),
            flops=work.flops,
            bytes_read=work.bytes_read,
            bytes_written=work.bytes_written,
            resident_bytes=resident_bytes(node, kind, own) + inside,
            workspace_bytes=work.workspace_bytes,
            launches=work.launches,
            output_shape=own[0].shape if own else (),
            colocation=keys.get(node.name),
        )
        chain = chain_accumulations(record, inputs, [position[s] for s, _ in node.inputs])
        chained += len(chain) > 1
        for link in chain:
            builder.add(link)
    return builder, chained


def _compute_type(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> DType:
    """The type of the first tensor that holds numbers, results before operands."""
    for spec in (*outputs, *reversed(inputs)):
        if spec.dtype not in {DType.RESOURCE, DType.STRING}:
            return spec.dtype
    return DType.FLOAT32
