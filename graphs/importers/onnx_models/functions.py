"""A model's own functions: what calls them is replaced by what they do.

Before onnx does that it is worked out how many nodes there will be: native code of onnx before 1.22
crashes on functions that call themselves, and a few functions, each of which calls the next one
twice, make more nodes than memory holds.
"""

from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import GraphProto, ModelProto, NodeProto, OperatorSetIdProto, inliner

from graphs.errors import ModelError
from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.topology import bodies_of

#: Nodes of a model once its functions are inlined, bodies included.
_MOST_NODES = 2_000_000

#: Domain, name and overload: what a node says that it calls.
_Callee = tuple[str, str, str]


def inline_functions(
    model: ModelProto, origin: str
) -> tuple[Sequence[NodeProto], Sequence[OperatorSetIdProto]]:
    """The model's nodes with calls of its functions replaced by their bodies, and the opsets.

    Weights may be gigabytes, so that they are declared to the inliner and not copied.

    Raises:
        ModelError: functions that call themselves, make too many nodes, or cannot be inlined.
    """
    if not model.functions:
        return model.graph.node, model.opset_import
    _check_calls(model, origin)
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


def _check_calls(model: ModelProto, origin: str) -> None:
    """Raise `ModelError` where inlining does not end, or makes too many nodes."""
    nodes = {
        (standard_domain(function.domain), function.name, function.overload): function.node
        for function in model.functions
    }
    calls = {name: list(_calls(body)) for name, body in nodes.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        name = error.args[1][0][1]
        raise ModelError(f"{origin}: its functions call themselves, such as {name!r}") from error
    sizes: dict[_Callee, int] = {}
    for callee in order:
        if callee in calls:
            sizes[callee] = sum(sizes.get(called, 1) for called in calls[callee])
    count = sum(sizes.get(called, 1) for called in _calls(model.graph.node))
    if count > _MOST_NODES:
        raise ModelError(
            f"{origin}: with its functions inlined it has {count:,} nodes; at most {_MOST_NODES:,} "
            "are read"
        )


def _calls(nodes: Iterable[NodeProto]) -> Iterator[_Callee]:
    """What each node calls, those of bodies included."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield standard_domain(node.domain), node.op_type, node.overload
            waiting.extend(body.node for _, body in bodies_of(node))
