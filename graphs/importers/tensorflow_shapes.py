"""Shapes and element types of a TensorFlow graph's tensors, by TensorFlow's own inference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2, types_pb2

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.tensorflow_functions import Library, registered_op
from graphs.importers.tensorflow_nodes import Node
from graphs.kinds import DType

DEFAULT_BATCH = 1
_LARGE_CONSTANT_ELEMENTS = 1024
_REFERENCE = 100

#: Outputs that only cuDNN fills, of a size that nothing else knows.
_SCRATCH_OUTPUTS = frozenset({("FusedBatchNormV3", 5)})

_DTYPES = {
    "DT_FLOAT": DType.FLOAT32, "DT_HALF": DType.FLOAT16, "DT_BFLOAT16": DType.BFLOAT16,
    "DT_DOUBLE": DType.FLOAT64, "DT_FLOAT8_E5M2": DType.FLOAT8, "DT_FLOAT8_E4M3FN": DType.FLOAT8,
    "DT_INT4": DType.INT4, "DT_UINT4": DType.INT4, "DT_INT8": DType.INT8, "DT_UINT8": DType.INT8,
    "DT_QINT8": DType.INT8, "DT_QUINT8": DType.INT8, "DT_INT16": DType.INT16,
    "DT_UINT16": DType.INT16, "DT_QINT16": DType.INT16, "DT_QUINT16": DType.INT16,
    "DT_INT32": DType.INT32, "DT_UINT32": DType.INT32, "DT_QINT32": DType.INT32,
    "DT_INT64": DType.INT64, "DT_UINT64": DType.INT64, "DT_BOOL": DType.BOOL,
    "DT_COMPLEX64": DType.COMPLEX64, "DT_COMPLEX128": DType.COMPLEX128,
    "DT_STRING": DType.STRING, "DT_RESOURCE": DType.RESOURCE, "DT_VARIANT": DType.RESOURCE,
}  # fmt: skip


@dataclass
class Dimensions:
    """Sizes of open dimensions: what the user bound, and what had to be assumed."""

    given: Mapping[str, int]
    assumed: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def size(self, node: str, axis: int) -> int:
        """Size of an open dimension of an input: `node:axis`, else `batch` if it leads."""
        exact = f"{node}:{axis}"
        name = exact if exact in self.given or axis > 0 else "batch"
        if name in self.given:
            self.used[name] = self.given[name]
            return self.given[name]
        self.assumed[name] = DEFAULT_BATCH
        return DEFAULT_BATCH

    @property
    def batch(self) -> int:
        return self.given.get("batch", DEFAULT_BATCH)


@dataclass(frozen=True)
class Specs:
    """Every tensor of a graph with known dimensions, and those that were completed."""

    outputs: Mapping[str, tuple[TensorSpec, ...]]
    """Node name to its outputs."""
    unknown: tuple[str, ...]
    """Tensors whose shape TensorFlow could not infer in full."""

    @cached_property
    def incomplete(self) -> frozenset[str]:
        return frozenset(self.unknown)


def dtype_of(enum: int) -> DType:
    """Our element type for a TensorFlow DataType; references count as their values."""
    return _dtype(enum % _REFERENCE)


@cache
def _dtype(enum: int) -> DType:
    if enum not in types_pb2.DataType.values():
        return DType.RESOURCE
    return _DTYPES.get(types_pb2.DataType.Name(enum), DType.RESOURCE)


def infer_specs(
    nodes: Mapping[str, Node],
    versions: Any,
    library: Library,
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec] | None = None,
) -> Specs:
    """Shapes by importing the graph into TensorFlow, without its large constants.

    Args:
        nodes: the graph; its NodeDefs are not changed.
        versions: the GraphDef's version record.
        library: functions that control-flow ops refer to.
        dimensions: sizes for open dimensions of the inputs; records what it is asked.
        known: specs of placeholders, by name.

    Raises:
        ModelError: TensorFlow refuses the graph; the message carries TensorFlow's reason.
    """
    specs = _inferred(nodes, versions, library, dimensions, known or {})
    # What a loop's gradient pops has the shape of what the loop pushed, which is known by now.
    popped = popped_specs(nodes, specs.outputs, specs.incomplete)
    if popped:
        specs = _inferred(nodes, versions, library, dimensions, {**(known or {}), **popped})
    return specs


def _inferred(
    nodes: Mapping[str, Node],
    versions: Any,
    library: Library,
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec],
) -> Specs:
    graph_def = graph_pb2.GraphDef()
    graph_def.versions.CopyFrom(versions)
    graph_def.library.function.extend(library.functions.values())
    output_counts = _output_counts(nodes)
    for node in nodes.values():
        graph_def.node.append(
            _importable(node, nodes, library, dimensions, known, output_counts.get(node.name, 0))
        )
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:400]
        raise ModelError(
            f"{library.origin}: TensorFlow {tf.__version__} refuses the graph ({reason}); "
            "the graph must be valid for this version"
        ) from error
    return specs_in(graph, nodes, dimensions)


def specs_in(graph: Any, nodes: Mapping[str, Node], dimensions: Dimensions) -> Specs:
    """Shapes of the nodes as a `tf.Graph` knows them, completed where it does not.

    A leading dimension that depends on data (the number of distinct tokens, say) counts as the
    largest that enters the op, or as the batch size; other unknown dimensions count as 1.
    """
    outputs: dict[str, tuple[TensorSpec, ...]] = {}
    unknown: list[str] = []
    spec = cache(TensorSpec)
    for name, node in nodes.items():
        specs = []
        for index, tensor in enumerate(graph.get_operation_by_name(name).outputs):
            dtype = dtype_of(tensor.dtype.as_datatype_enum)
            dims = None if tensor.shape.rank is None else tensor.shape.as_list()
            if dims is None or None in dims:
                if dtype is not DType.RESOURCE and (node.op_type, index) not in _SCRATCH_OUTPUTS:
                    unknown.append(f"{name}:{index}")
                dims = _completed(dims or [], node, outputs, dimensions)
            specs.append(spec(tuple(dims), dtype))
        outputs[name] = tuple(specs)
    return Specs(outputs, tuple(unknown))


def _completed(
    dims: Sequence[int | None],
    node: Node,
    outputs: Mapping[str, Sequence[TensorSpec]],
    dimensions: Dimensions,
) -> list[int]:
    sizes = [1 if size is None else size for size in dims]
    if dims and dims[0] is None:
        entering = [
            outputs[source][number].shape[0]
            for source, number in node.inputs
            if source in outputs
            and number < len(outputs[source])
            and len(outputs[source][number].shape) == len(dims)
        ]
        sizes[0] = max(entering, default=dimensions.batch)
    return sizes


def has_open_inputs(nodes: Mapping[str, Node]) -> bool:
    """Whether any input of the graph has a dimension without a size."""
    return any(
        dim.size < 0 for node in nodes.values() for shape in _input_shapes(node) for dim in shape
    )


def open_dimensions(nodes: Mapping[str, Node]) -> list[str]:
    """Names by which the graph's open dimensions can be bound."""
    names: dict[str, None] = {}
    for node in nodes.values():
        for shape in _input_shapes(node):
            for axis, dim in enumerate(shape):
                if dim.size < 0:
                    names["batch" if axis == 0 else f"{node.name}:{axis}"] = None
    return list(names)


def _input_shapes(node: Node) -> Sequence[Any]:
    attributes = node.definition.attr
    if node.op_type in {"Placeholder", "PlaceholderWithDefault"}:
        return [attributes["shape"].shape.dim] if "shape" in attributes else []
    if node.op_type in {"IteratorGetNext", "IteratorGetNextSync"}:
        return [shape.dim for shape in attributes["output_shapes"].list.shape]
    return []


def _importable(
    node: Node,
    nodes: Mapping[str, Node],
    library: Library,
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec],
    output_count: int,
) -> Any:
    """A NodeDef that TensorFlow can import cheaply and whose shapes are those of the node."""
    source = node.definition
    if library.op_def(node.op_type) is None:
        return _stand_in(node, output_count)
    if node.op_type == "Const":
        large = _large_constant(node, library.origin)
        if large is not None:
            return large
    copied = node_def_pb2.NodeDef()
    copied.CopyFrom(source)
    copied.name = node.name
    copied.device = ""
    for key in [key for key in copied.attr if key.startswith("_")]:
        del copied.attr[key]
    if node.name in known:
        if node.op_type == "StackPopV2":
            copied = node_def_pb2.NodeDef(name=node.name, op="Placeholder")
            copied.attr["dtype"].type = source.attr["elem_type"].type
        shape = copied.attr["shape"].shape
        shape.Clear()
        for size in known[node.name].shape:
            shape.dim.add(size=size)
        return copied
    if node.op_type == "Enter":
        copied.op = "Identity"  # has the same shape, which Enter's own inference forgets
        for key in [key for key in copied.attr if key != "T"]:
            del copied.attr[key]
    if node.op_type == "Merge":
        # A loop's variables keep the shapes with which they enter; TensorFlow's inference
        # would give up where the loop closes.
        kept = [name for name, _ in node.inputs if nodes[name].op_type != "NextIteration"]
        if 0 < len(kept) < len(node.inputs):
            texts = [text for text in source.input if text.partition(":")[0] in kept]
            del copied.input[:]
            copied.input.extend(texts)
            copied.attr["N"].i = len(texts)
    for dims in _input_shapes(Node(node.name, node.op_type, (), (), copied)):
        for axis, dim in enumerate(dims):
            if dim.size < 0:
                dim.size = dimensions.size(node.name, axis)
    return copied


def _large_constant(node: Node, origin: str) -> Any | None:
    """A placeholder of the same shape, unless the constant may matter to shape inference."""
    value = node.definition.attr["value"].tensor
    elements = 1
    for dim in value.tensor_shape.dim:
        elements *= dim.size
    if elements < 0 or elements > 1 << 48:
        raise ModelError(f"{origin}: constant {node.name!r} has an impossible shape")
    if elements <= _LARGE_CONSTANT_ELEMENTS:
        return None
    placeholder = node_def_pb2.NodeDef(name=node.name, op="Placeholder")
    placeholder.attr["dtype"].type = value.dtype
    placeholder.attr["shape"].shape.CopyFrom(value.tensor_shape)
    placeholder.input.extend(f"^{name}" for name in node.controls)
    return placeholder


def popped_specs(
    nodes: Mapping[str, Node],
    outputs: Mapping[str, Sequence[TensorSpec]],
    incomplete: frozenset[str],
) -> dict[str, TensorSpec]:
    """Specs of what stacks return, by popping node, where inference does not know them."""

    def stack(name: str) -> str:
        for _ in range(len(nodes)):
            node = nodes[name]
            if node.op_type == "StackV2" or not node.inputs:
                break
            name = node.inputs[0][0]
        return name

    pops = [
        node
        for node in nodes.values()
        if node.op_type == "StackPopV2" and node.inputs and f"{node.name}:0" in incomplete
    ]
    if not pops:
        return {}
    pushed = {
        stack(node.name): outputs[node.inputs[1][0]][node.inputs[1][1]]
        for node in nodes.values()
        if node.op_type == "StackPushV2"
        and len(node.inputs) > 1
        and f"{node.inputs[1][0]}:{node.inputs[1][1]}" not in incomplete
    }
    return {pop.name: pushed[stack(pop.name)] for pop in pops if stack(pop.name) in pushed}


def _stand_in(node: Node, output_count: int) -> Any:
    """A registered op with as many outputs as the unknown one is seen to have."""
    attributes = node.definition.attr
    typed = next((attributes[key].type for key in ("T", "dtype", "Tout") if key in attributes), 0)
    stand_in = node_def_pb2.NodeDef(name=node.name, op="PyFunc")
    stand_in.attr["token"].s = b"unknown op"
    stand_in.attr["Tin"].list.SetInParent()
    stand_in.attr["Tout"].list.type.extend([typed or types_pb2.DT_FLOAT] * output_count)
    stand_in.input.extend(f"^{name}" for name in dict.fromkeys(s for s, _ in node.inputs))
    return stand_in


def _output_counts(nodes: Mapping[str, Node]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in nodes.values():
        for source, number in node.inputs:
            counts[source] = max(counts.get(source, 1), number + 1)
    return counts


def is_registered(op_type: str, library: Library) -> bool:
    """Whether TensorFlow knows the op type."""
    return op_type in library.functions or registered_op(op_type) is not None
