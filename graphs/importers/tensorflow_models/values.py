"""Small integers of a graph that are known before it runs: sizes, limits of loops, indices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from tensorflow.python.framework import tensor_util

from graphs.costs.work import TensorSpec
from graphs.importers.tensorflow_models.nodes import (
    Endpoint,
    TensorflowNode,
    int_attribute,
    type_attribute,
)

Value = np.ndarray

_LARGEST_CONSTANT = 64
_DEEPEST = 200
#: Ops that hand their first input on.
PASSES = frozenset(
    {
        "Identity", "StopGradient", "Enter", "RefEnter", "Exit", "RefExit", "Switch", "RefSwitch",
        "Snapshot", "PreventGradient", "EnsureShape", "CheckNumerics", "NextIteration",
    }
)  # fmt: skip

_LOOP_RESULTS = frozenset({"While", "StatelessWhile", "Exit", "RefExit"})

_PAIRS: Mapping[str, Callable[[Value, Value], Value]] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorDiv": np.floor_divide,
    "FloorMod": np.mod, "TruncateDiv": np.floor_divide, "RealDiv": np.true_divide,
    "Div": np.floor_divide, "Pow": np.power,
}  # fmt: skip
_REDUCTIONS: Mapping[str, Callable[[Value], Value]] = {
    "Max": np.max, "Min": np.min, "Prod": np.prod, "Sum": np.sum,
}  # fmt: skip
_SINGLES: Mapping[str, Callable[[Value], Value]] = {
    "Neg": np.negative, "Ceil": np.ceil, "Floor": np.floor, "Abs": np.abs,
}  # fmt: skip
#: What `_computed` knows.
_COMPUTED = frozenset(
    {
        *_PAIRS, *_REDUCTIONS, *_SINGLES, "Cast", "Pack", "ConcatV2", "StridedSlice", "GatherV2",
        "Gather", "Reshape", "ExpandDims", "Squeeze", "Range",
    }
)  # fmt: skip
_ERRORS = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, KeyError)


@dataclass
class Values:
    """Evaluates tensors of one graph or function body, as far as they are known."""

    nodes: Mapping[str, TensorflowNode]
    spec: Callable[[Endpoint], TensorSpec | None]
    """The spec of a tensor; None where it is not known."""
    arguments: Mapping[str, Value] = field(default_factory=dict)
    """Values of a body's arguments, where the caller knows them."""
    returned: Callable[[TensorflowNode, int], int | None] | None = None
    """What a loop leaves in a variable that counts its trips, by the op that returns it."""
    _found: dict[Endpoint, Value | None] = field(default_factory=dict)

    def of(self, endpoint: Endpoint, depth: int = 0) -> Value | None:
        """The value of a small tensor; None where only the run decides it."""
        if endpoint in self._found:
            return self._found[endpoint]
        if depth > _DEEPEST:
            return None
        self._found[endpoint] = None  # a loop's variable depends on itself
        try:
            value = self._evaluate(endpoint, depth + 1)
        except _ERRORS:
            value = None
        self._found[endpoint] = value
        return value

    def integer(self, endpoint: Endpoint) -> int | None:
        """The value of an integer scalar; None where it is unknown or something else."""
        value = self.of(endpoint)
        return int(value.reshape(())) if value is not None and value.size == 1 else None

    def _evaluate(self, endpoint: Endpoint, depth: int) -> Value | None:
        name, number = endpoint
        if name in self.arguments:
            return self.arguments[name]
        node = self.nodes[name]
        kind = node.op_type
        if kind == "Const":
            tensor = node.definition.attr["value"].tensor
            size = int(np.prod([dim.size for dim in tensor.tensor_shape.dim]))
            return tensor_util.MakeNdarray(tensor) if size <= _LARGEST_CONSTANT else None
        if kind in {"Shape", "ShapeN"}:
            spec = self.spec(node.inputs[number])
            return None if spec is None else np.array(spec.shape, np.int64)
        if kind in {"Size", "Rank"}:
            spec = self.spec(node.inputs[0])
            sized = spec if spec is None else spec.elements if kind == "Size" else len(spec.shape)
            return None if spec is None else np.array(sized, np.int64)
        if kind == "VariableShape":
            return self._variable_shape(node.inputs[0])
        if kind in {"TensorArraySizeV3", "TensorListLength", "TensorArrayV3"}:
            return self.of(node.inputs[0], depth)
        if kind in {"TensorListReserve"}:
            return self.of(node.inputs[1], depth)
        if kind == "TensorListFromTensor":
            spec = self.spec(node.inputs[0])
            return None if spec is None else np.array(spec.shape[0], np.int64)
        if kind in _LOOP_RESULTS and self.returned is not None:
            last = self.returned(node, number)
            if last is not None:
                return np.array(last, np.int64)
        if kind in PASSES:
            return self.of(node.inputs[0], depth)
        return self._computed(node, depth) if kind in _COMPUTED else None

    def _computed(self, node: TensorflowNode, depth: int) -> Value | None:
        """What an op makes of its inputs; the first that is unknown ends the search."""
        known = []
        for source in node.inputs:
            value = self.of(source, depth)
            if value is None:
                return None
            known.append(value)
        return _computed(node, known)

    def _variable_shape(self, handle: Endpoint) -> Value | None:
        node = self.nodes.get(handle_origin(handle, self.nodes)[0])
        if node is None or node.op_type != "VarHandleOp":
            return None
        shape = node.definition.attr["shape"].shape
        sizes = [int(dim.size) for dim in shape.dim]
        return None if shape.unknown_rank or -1 in sizes else np.array(sizes, np.int64)


def handle_origin(handle: Endpoint, nodes: Mapping[str, TensorflowNode]) -> Endpoint:
    """What made a resource, behind ops that hand it on; a loop returns it as it was given."""
    for _ in range(_DEEPEST):
        node = nodes.get(handle[0])
        if node is None or not node.inputs:
            break
        if node.op_type in PASSES:
            handle = node.inputs[0]
        elif node.op_type in {"While", "StatelessWhile"}:
            handle = node.inputs[handle[1]]
        else:
            break
    return handle


def _computed(node: TensorflowNode, inputs: list[Value]) -> Value | None:
    """What an op makes of known inputs; None for ops that sizes are not made by."""
    kind = node.op_type
    definition = node.definition
    if kind in _PAIRS:
        return np.asarray(_PAIRS[kind](inputs[0], inputs[1]))
    if kind in _SINGLES:
        return np.asarray(_SINGLES[kind](inputs[0]))
    if kind in _REDUCTIONS:
        return np.asarray(_REDUCTIONS[kind](inputs[0]))
    if kind == "Cast":
        return np.asarray(inputs[0]).astype(
            np.float64 if type_attribute(definition, "DstT") in {1, 2} else np.int64
        )
    if kind == "Pack":
        return np.stack(inputs, int_attribute(definition, "axis"))
    if kind == "ConcatV2":
        return np.concatenate(inputs[:-1], int(inputs[-1]))
    if kind == "StridedSlice":
        return _sliced(node, *inputs)
    if kind in {"GatherV2", "Gather"}:
        return np.take(inputs[0], inputs[1], int(inputs[2]) if len(inputs) > 2 else 0)
    if kind == "Reshape":
        return inputs[0].reshape([int(size) for size in inputs[1]])
    if kind == "ExpandDims":
        return np.expand_dims(inputs[0], int(inputs[1]))
    if kind == "Squeeze":
        return np.squeeze(inputs[0])
    if kind == "Range":
        return np.arange(*(int(value) for value in inputs))
    return None


def _sliced(node: TensorflowNode, value: Value, begin: Value, end: Value, step: Value) -> Value:
    """One axis of a shape: the slice, or one element where the axis shrinks."""
    definition = node.definition
    start, stop, stride = int(begin[0]), int(end[0]), int(step[0])
    if int_attribute(definition, "shrink_axis_mask") & 1:
        return np.asarray(value[start])
    return np.asarray(
        value[
            slice(
                None if int_attribute(definition, "begin_mask") & 1 else start,
                None if int_attribute(definition, "end_mask") & 1 else stop,
                stride,
            )
        ]
    )
