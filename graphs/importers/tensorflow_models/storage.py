"""Where a TensorFlow op's outputs live, and which ops merely compute shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphs.builder import OutputTensor
from graphs.costs.tensorflow_movement import VIEW_OPS
from graphs.costs.work import TensorSpec
from graphs.importers.tensorflow_models.dtypes import dtype_of
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.kinds import DType, OpKind, Storage

_SMALL_ELEMENTS = 64
_INTEGERS = frozenset({DType.INT32, DType.INT64, DType.BOOL})
_SHAPE_ARITHMETIC = frozenset(
    {
        OpKind.ELEMENTWISE, OpKind.REDUCE, OpKind.SPLIT, OpKind.CONCAT, OpKind.CAST, OpKind.SCAN,
        OpKind.GATHER, OpKind.VIEW, OpKind.BROADCAST, OpKind.SHAPE, OpKind.SCATTER, OpKind.PAD,
    }
)  # fmt: skip
_SHAPE_READERS = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_REFERENCES = frozenset({"VariableV2", "Variable", "TemporaryVariable"})

Outputs = Mapping[str, tuple[TensorSpec, ...]]


def kind_in_context(
    node: TensorflowNode,
    kind: OpKind,
    outputs: Outputs,
    kinds: Mapping[str, OpKind],
    spec: Callable[[Outputs, Endpoint], TensorSpec],
) -> OpKind:
    """`SHAPE` for integer arithmetic on a few numbers that come from shapes, else `kind`.

    Such ops run on the host, or are folded away before the step, so they start no kernel.
    """
    own = outputs[node.name]
    if kind not in _SHAPE_ARITHMETIC or kind is OpKind.SHAPE or not own or not node.inputs:
        return kind
    small = all(t.dtype in _INTEGERS and t.elements <= _SMALL_ELEMENTS for t in own)
    if not small:
        return kind
    from_shapes = False
    for endpoint in node.inputs:
        source = kinds[endpoint[0]]
        if source is OpKind.SHAPE:
            from_shapes = True
        elif source is not OpKind.CONSTANT or spec(outputs, endpoint).elements > _SMALL_ELEMENTS:
            return kind
    return OpKind.SHAPE if from_shapes else kind


def reads_static_shapes(node: TensorflowNode, incomplete: frozenset[str]) -> bool:
    """Whether the node only looks at shapes that are known before the step.

    Runtimes fold such ops: they wait for their input, but neither hold nor move it.
    """
    return node.op_type in _SHAPE_READERS and not any(
        f"{source}:{number}" in incomplete for source, number in node.inputs
    )


def output_tensors(
    node: TensorflowNode, kind: OpKind, specs: Sequence[TensorSpec], op_def: Any | None
) -> list[OutputTensor]:
    """The outputs of a node with their bytes and storage."""
    tensors = []
    for number, spec in enumerate(specs):
        name = f"{node.name}:{number}"
        storage, alias = Storage.BUFFER, None
        if kind is OpKind.CONSTANT:
            storage = Storage.WEIGHT
        elif node.op_type in _REFERENCES or node.op_type == "ReadVariableOp":
            storage = Storage.RESIDENT
        elif _shares_input(node, number, op_def):
            storage = Storage.ALIAS
            source, index = node.inputs[number if node.op_type == "IdentityN" else 0]
            alias = f"{source}:{index}"
        tensors.append(OutputTensor(name, spec.bytes, storage, alias))
    return tensors


def _shares_input(node: TensorflowNode, number: int, op_def: Any | None) -> bool:
    if not node.inputs or (number >= len(node.inputs) and node.op_type == "IdentityN"):
        return False
    if op_def is not None and number < len(op_def.output_arg) and op_def.output_arg[number].is_ref:
        return True  # Assign and Apply return the variable that they changed
    if node.op_type not in VIEW_OPS:
        return False
    if node.op_type in {"Merge", "RefMerge"}:
        return number == 0
    return number < 2 or node.op_type in {"IdentityN", "_SwitchN"}


def resident_bytes(node: TensorflowNode, kind: OpKind, specs: Sequence[TensorSpec]) -> int:
    """Bytes that a variable holds for the whole step."""
    if kind is not OpKind.VARIABLE:
        return 0
    if node.op_type != "VarHandleOp":
        return sum(spec.bytes for spec in specs)
    attributes = node.definition.attr
    if attributes["shape"].shape.unknown_rank:
        return 0
    shape = tuple(max(int(dim.size), 1) for dim in attributes["shape"].shape.dim)
    return TensorSpec(shape, dtype_of(attributes["dtype"].type)).bytes
