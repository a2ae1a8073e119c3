"""The nodes of an ONNX model that one run needs: named, in order, each analysed.

The importer makes ops of them, exporters cut models along them: both see the same nodes under the
same names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, OperatorSetIdProto

from graphs.errors import ModelError
from graphs.importers.onnx_models.analysis import NodeAnalysis, Scope, analyse_node, collect_weights
from graphs.importers.onnx_models.context import ImportContext, standard_domain
from graphs.importers.onnx_models.dims import Binding, bind_inputs, stated_dims, tensor_type
from graphs.importers.onnx_models.file import check_external_data, check_model
from graphs.importers.onnx_models.functions import inline_functions
from graphs.importers.onnx_models.gradient import gradient_work, is_gradient
from graphs.importers.onnx_models.parameters import find_parameters
from graphs.importers.onnx_models.topology import (
    needed_nodes,
    node_names,
    ordered_nodes,
    read_names,
)
from graphs.importers.onnx_models.values import OnnxValue, constant_node_value

_CONTRADICTIONS_SHOWN = 5
#: The IR version from which on weights are inputs only where callers may replace them.
_FIRST_OPTIONAL_INPUTS = 4
#: A settled type travels against the flow of data, from op to op, once per pass.
_MOST_PASSES = 8


@dataclass(frozen=True)
class OnnxStep:
    """One needed node and what is known of it."""

    name: str
    """Unique in the model: the op's name in the graph."""
    node: NodeProto
    reads: Sequence[str]
    """Tensors that it reads, those that its bodies capture included."""
    analysis: NodeAnalysis


@dataclass(frozen=True)
class OnnxSteps:
    """One run of a model."""

    steps: Sequence[OnnxStep]
    binding: Binding
    weights: Scope
    """Initializers, constants, inputs that are parameters, and what is folded, by name."""
    parameters: frozenset[str]
    """Inputs of the model that count as weights."""
    folded: Mapping[str, OnnxStep]
    """By tensor, the steps that are computed once, when the model is loaded; none is in `steps`."""
    constants: Mapping[str, NodeProto]
    """The `Constant` nodes among the weights, by the tensor that each gives."""
    values: Mapping[str, OnnxValue]
    """Every tensor that a step reads or writes, by name."""
    outputs: Sequence[str]
    opsets: Sequence[OperatorSetIdProto]
    """The opsets of the nodes as they are here, with calls of local functions inlined."""
    context: ImportContext

    def made_of(self, names: Iterable[str]) -> tuple[list[OnnxStep], list[str]]:
        """What it takes to have some weights: the folded steps, in order, and what is stored.

        Args:
            names: weights, folded or not.
        """
        steps: dict[str, OnnxStep] = {}
        stored: dict[str, None] = {}
        begun: set[str] = set()
        open_names = [(name, False) for name in reversed(list(names))]
        while open_names:
            name, sources_done = open_names.pop()
            step = self.folded.get(name)
            if step is None:
                stored[name] = None
            elif sources_done:
                steps[step.name] = step
            elif step.name not in begun:
                begun.add(step.name)
                open_names.append((name, True))
                open_names.extend((source, False) for source in reversed(step.reads))
        return list(steps.values()), list(stored)

    def same_weight(self, name: str) -> str:
        """The weight behind a name: copies of a weight under other names are one."""
        while name in self.folded and self.folded[name].node.op_type == "Identity":
            name = self.folded[name].reads[0]
        return name


def onnx_steps(
    model: ModelProto, dims: Mapping[str, int], origin: str, folder: Path | None
) -> OnnxSteps:
    """Order, name and analyse the nodes of a model, which is not changed.

    Args:
        model: any IR version and opset that the installed onnx reads.
        dims: sizes of symbolic dimensions by name; an unnamed one is `input[axis]`.
        origin: the model's name, for messages.
        folder: where small external weights may be read; None reads none.

    Raises:
        ModelError: damaged, an unknown dimension, shapes that do not fit, a cycle, or a tensor
            without or with two producers.
    """
    try:
        check_model(model, origin)
        check_external_data(model, folder, origin)
        return _steps(model, *inline_functions(model, origin), dims, origin, folder)
    except (DecodeError, UnicodeDecodeError) as error:
        # Protobuf checks text and nested messages only when they are touched.
        raise ModelError(f"{origin}: damaged ONNX model ({error})") from error
    except RecursionError as error:
        raise ModelError(f"{origin}: control flow is nested too deeply to be read") from error


def _steps(
    model: ModelProto,
    all_nodes: Sequence[NodeProto],
    imports: Sequence[OperatorSetIdProto],
    dims: Mapping[str, int],
    origin: str,
    folder: Path | None,
) -> OnnxSteps:
    graph = model.graph
    opsets = {standard_domain(item.domain): item.version for item in imports} or {"": 1}
    context = ImportContext(origin, opsets, model.ir_version, folder)
    weights: Scope = {}
    collect_weights(graph, weights, context)
    constants: dict[str, NodeProto] = {}
    nodes = []
    for node in all_nodes:
        if (
            node.op_type == "Constant"
            and not standard_domain(node.domain)
            and len(node.output) == 1
        ):
            _refuse_second_producer(node.output[0], weights, origin)
            value = constant_node_value(node, folder)
            weights[node.output[0]] = replace(value, fixed=True)
            constants[node.output[0]] = node
        else:
            nodes.append(node)
    inputs = [value for value in graph.input if value.name not in weights]
    binding = bind_inputs(inputs, dims, origin)
    context.assumed_dims = binding.assumed
    context.declared = _declared_types(graph, binding.sizes)
    stored_bytes = sum(value.spec.bytes for value in weights.values())
    parameters = find_parameters(inputs, binding.inputs, nodes, stored_bytes)
    names = node_names(nodes)
    available = [value.name for value in inputs] + list(weights)
    order = ordered_nodes(nodes, names, available, origin)
    nodes, names = [nodes[i] for i in order], [names[i] for i in order]
    outputs = [value.name for value in graph.output]
    needed = needed_nodes(nodes, outputs, origin, available)
    kept = [(node, name) for node, name, wanted in zip(nodes, names, needed, strict=True) if wanted]
    weights.update({name: replace(binding.inputs[name], fixed=True) for name in parameters.names})
    given: Scope = {**binding.inputs, **weights}
    steps, scope = _analyse(kept, given, outputs, context)
    for _ in range(_MOST_PASSES):
        if not context.must_repeat:
            break
        # A guessed type was wrong, and what follows from it.
        context = context.again()
        steps, scope = _analyse(kept, given, outputs, context)
    folded = {
        name: step for step in steps if step.analysis.folded for name in step.analysis.outputs
    }
    weights.update({name: scope[name] for name in folded})
    steps = [step for step in steps if not step.analysis.folded]
    twins = [v.name for v in graph.input if v.name in weights and v.name not in parameters.names]
    if twins and model.ir_version >= _FIRST_OPTIONAL_INPUTS:
        context.note(
            f"{len(twins)} weights are inputs too, so that callers may replace them; here they "
            "count as weights."
        )
    for note in binding.notes:
        context.note(note)
    if parameters.note:
        context.note(parameters.note)
    _note_oddities(model, nodes, names, needed, context)
    return OnnxSteps(
        steps,
        binding,
        weights,
        parameters.names,
        folded,
        constants,
        scope,
        outputs,
        imports,
        context,
    )


def _analyse(
    nodes: Sequence[tuple[NodeProto, str]],
    given: Scope,
    outputs: Sequence[str],
    context: ImportContext,
) -> tuple[list[OnnxStep], Scope]:
    """One pass over nodes and their names; returns the steps and the values of all tensors.

    A node that gives an output of the model is always computed.
    """
    scope: Scope = dict(given)
    steps: list[OnnxStep] = []
    for node, name in nodes:
        analysis = analyse_node(node, name, scope, context)
        if analysis.folded and not set(outputs).isdisjoint(node.output):
            analysis = analyse_node(node, name, scope, context, may_fold=False)
        if analysis.folded:
            context.folded[node.op_type] += 1
        if is_gradient(node):
            earlier = [(s.reads, list(s.analysis.outputs), s.analysis.work) for s in steps]
            analysis = replace(analysis, work=gradient_work(node, earlier))
            context.composite["Gradient"] += 1
        scope.update(analysis.outputs)
        steps.append(OnnxStep(name, node, read_names(node), analysis))
    return steps, scope


def _refuse_second_producer(name: str, weights: Scope, origin: str) -> None:
    if name in weights:
        raise ModelError(
            f"{origin}: tensor {name!r} is produced more than once; each needs exactly one producer"
        )


def _declared_types(
    graph: GraphProto, sizes: Mapping[str, int]
) -> dict[str, tuple[int, list[int | None]]]:
    """Shapes that the model states for what its nodes compute, with dimensions bound."""
    declared = {}
    for value in (*graph.value_info, *graph.output):
        tensor, dims = tensor_type(value.type), stated_dims(value.type, sizes)
        if tensor is not None and dims is not None and all(d is None or d >= 0 for d in dims):
            declared[value.name] = (tensor.elem_type, [size or None for size in dims])
    return declared


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
    for tensor, reason in list(context.contradictions.items())[:_CONTRADICTIONS_SHOWN]:
        context.note(f"What is known of tensor {tensor!r} does not agree: {reason}.")
    if len(context.contradictions) > _CONTRADICTIONS_SHOWN:
        more = len(context.contradictions) - _CONTRADICTIONS_SHOWN
        context.note(f"The same holds of {more} more tensors.")
    if context.annotated:
        context.note(f"{context.annotated} shapes come from the model's own annotations.")
