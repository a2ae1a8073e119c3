"""Shapes and element types of a TensorFlow graph's tensors, by TensorFlow's own inference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.dimensions import Dimensions
from graphs.importers.tensorflow_models.functions import Library
from graphs.importers.tensorflow_models.nodes import TensorflowNode
from graphs.importers.tensorflow_models.sanitize import inferable_graph_def
from graphs.kinds import DType

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
    nodes: Mapping[str, TensorflowNode],
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
    specs = _infer(nodes, versions, library, dimensions, known or {})
    # What a loop's gradient pops has the shape of what the loop pushed, which is known by now.
    popped = popped_specs(nodes, specs.outputs, specs.incomplete)
    if popped:
        specs = _infer(nodes, versions, library, dimensions, {**(known or {}), **popped})
    return specs


def _infer(
    nodes: Mapping[str, TensorflowNode],
    versions: Any,
    library: Library,
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec],
) -> Specs:
    graph_def = inferable_graph_def(nodes, versions, library, dimensions, known)
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


def specs_in(graph: Any, nodes: Mapping[str, TensorflowNode], dimensions: Dimensions) -> Specs:
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
                dims = _complete(dims or [], node, outputs, dimensions)
            specs.append(spec(tuple(dims), dtype))
        outputs[name] = tuple(specs)
    return Specs(outputs, tuple(unknown))


def _complete(
    dims: Sequence[int | None],
    node: TensorflowNode,
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


def popped_specs(
    nodes: Mapping[str, TensorflowNode],
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
