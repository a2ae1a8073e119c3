"""The order of ONNX nodes, their names, and the outer tensors that control-flow bodies read."""

from collections.abc import Iterator, Sequence

from onnx import AttributeProto, GraphProto, NodeProto

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.errors import ModelError
from graphs.import_report import ImportReport
from graphs.importers.onnx_models.gradient import differentiate, is_gradient
from graphs.kinds import OpKind


def bodies_of(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The control-flow bodies of a node, with the attribute that holds each."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.name, attribute.g
        for body in attribute.graphs:
            yield attribute.name, body


def read_names(node: NodeProto) -> list[str]:
    """Tensors that a node reads: its inputs, then what its bodies capture, without repeats."""
    names = {name: None for name in node.input if name}
    if is_gradient(node):
        names.update(dict.fromkeys(differentiate(node)))
    for _, body in bodies_of(node):
        names.update(dict.fromkeys(_captured_names(body)))
    return list(names)


def _captured_names(body: GraphProto) -> list[str]:
    own = {value.name for value in body.input}
    own.update(tensor.name for tensor in body.initializer)
    own.update(sparse.values.name for sparse in body.sparse_initializer)
    captured: dict[str, None] = {}
    for node in body.node:
        captured.update((name, None) for name in read_names(node) if name not in own)
        own.update(node.output)
    captured.update((value.name, None) for value in body.output if value.name not in own)
    return list(captured)


def node_names(nodes: Sequence[NodeProto], taken: Sequence[str] = ()) -> list[str]:
    """A unique name for each node, stable from one reading of a model to the next.

    A node keeps its own name; without one it takes its first output's, or else its type and
    position. A name that is taken gets a suffix.
    """
    used = set(taken)
    suffixes: dict[str, int] = {}
    names: list[str] = []
    for index, node in enumerate(nodes):
        first_output = next((name for name in node.output if name), "")
        wanted = node.name or first_output or f"{node.op_type}_{index}"
        name = wanted
        while name in used:
            suffixes[wanted] = suffixes.get(wanted, 0) + 1
            name = f"{wanted}#{suffixes[wanted]}"
        used.add(name)
        names.append(name)
    return names


def ordered_nodes(
    nodes: Sequence[NodeProto],
    names: Sequence[str],
    available: Sequence[str],
    origin: str,
) -> list[int]:
    """Positions of the nodes in an order in which every tensor is written before it is read.

    Args:
        nodes: all nodes of a graph.
        names: a unique name for each.
        available: tensors that exist before any node runs.
        origin: the model's name, for messages.

    Raises:
        ModelError: a tensor has two producers or none, or the nodes form a cycle.
    """
    written = set(available)
    if len(written) < len(available):
        double = next(name for name in available if available.count(name) > 1)
        raise ModelError(f"{origin}: input or weight {double!r} is declared more than once")
    sorted_already = True
    for node in nodes:
        if any(name not in written for name in read_names(node)):
            sorted_already = False
            break
        for output in filter(None, node.output):
            if output in written:
                sorted_already = False
                break
            written.add(output)
    if sorted_already:
        return list(range(len(nodes)))
    return _sorted_by_builder(nodes, names, available, origin)


def _sorted_by_builder(
    nodes: Sequence[NodeProto], names: Sequence[str], available: Sequence[str], origin: str
) -> list[int]:
    """The builder sorts, and it is the one place that words what can be wrong."""
    builder = GraphBuilder(origin)
    sources = [f"{name} (input or weight)" for name in available]
    for source, name in zip(sources, available, strict=True):
        builder.add(OpRecord(source, "", OpKind.INPUT, outputs=[OutputTensor(name, 0)]))
    for node, name in zip(nodes, names, strict=True):
        outputs = [OutputTensor(output, 0) for output in node.output if output]
        builder.add(OpRecord(name, "", OpKind.CUSTOM, read_names(node), outputs))
    graph = builder.build(ImportReport())
    position = {name: index for index, name in enumerate(names)}
    return [position[name] for name in graph.op_names if name in position]


def needed_nodes(
    nodes: Sequence[NodeProto], outputs: Sequence[str], origin: str, available: Sequence[str]
) -> list[bool]:
    """Whether each node's result reaches a model output; the nodes are in order.

    Raises:
        ModelError: nothing produces a model output.
    """
    written = {name for node in nodes for name in node.output}.union(available)
    for name in outputs:
        if name not in written:
            raise ModelError(f"{origin}: nothing produces the model output {name!r}")
    wanted = set(outputs)
    needed = [False] * len(nodes)
    for index in range(len(nodes) - 1, -1, -1):
        if any(name in wanted for name in nodes[index].output if name):
            needed[index] = True
            wanted.update(read_names(nodes[index]))
    return needed
