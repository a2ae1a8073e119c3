"""Evaluates the arithmetic on small tensors by which ONNX models compute shapes."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from graphs.importers.onnx_models.values import SMALL_ELEMENTS

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
#: NumPy gives scalars for arrays without dimensions.
Value = np.ndarray | np.generic

#: What NumPy raises on operands that do not fit; such an op is simply not evaluated.
_EVALUATION_ERRORS = (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, KeyError)


def evaluate(op_type: str, inputs: Arrays, attributes: Attributes) -> list[np.ndarray] | None:
    """The outputs of a foldable op on known small inputs, or None where it cannot be told."""
    rule = FOLDABLE.get(op_type)
    if rule is None or (inputs and inputs[0] is None):
        return None
    try:
        with np.errstate(all="ignore"):
            result = rule(inputs, attributes)
    except _EVALUATION_ERRORS:
        return None
    outputs = result if isinstance(result, list) else [result]
    arrays = [np.asarray(output) for output in outputs]
    if any(array.size > SMALL_ELEMENTS or array.dtype.hasobject for array in arrays):
        return None
    return arrays


def _given(inputs: Arrays, position: int) -> np.ndarray:
    array = inputs[position] if position < len(inputs) else None
    if array is None:
        raise ValueError("a required input is absent")
    return array


def _option(inputs: Arrays, attributes: Attributes, position: int, name: str) -> list[int] | None:
    """An operand that was an attribute in old opsets and is an input in new ones."""
    if position < len(inputs) and inputs[position] is not None:
        return [int(item) for item in _given(inputs, position).reshape(-1)]
    listed = attributes.get(name)
    return None if listed is None else [int(item) for item in listed]


def _limit(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that may be allocated."""
    if any(size < 0 for size in shape) or prod(shape) > SMALL_ELEMENTS:
        raise ValueError("not a small tensor")
    return tuple(shape)


def _cast(inputs: Arrays, attributes: Attributes) -> Value:
    target = attributes["to"]
    if target == TensorProto.STRING:
        raise ValueError("text is not evaluated")
    return _given(inputs, 0).astype(helper.tensor_dtype_to_np_dtype(target))


def _divide(inputs: Arrays, attributes: Attributes) -> Value:
    left, right = _given(inputs, 0), _given(inputs, 1)
    if not np.issubdtype(left.dtype, np.integer):
        return left / right
    if not right.all():
        raise ZeroDivisionError
    quotient = np.abs(left) // np.abs(right)  # ONNX truncates, NumPy floors
    return (quotient * np.sign(left) * np.sign(right)).astype(left.dtype)


def _modulo(inputs: Arrays, attributes: Attributes) -> Value:
    left, right = _given(inputs, 0), _given(inputs, 1)
    if not right.all():
        raise ZeroDivisionError
    return np.fmod(left, right) if attributes.get("fmod") else np.mod(left, right)


def _power(inputs: Arrays, attributes: Attributes) -> Value:
    left = _given(inputs, 0)
    return np.power(left.astype(np.float64), _given(inputs, 1)).astype(left.dtype)


def _reshape(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    array, target = _given(inputs, 0), _option(inputs, attributes, 1, "shape") or []
    if not attributes.get("allowzero"):
        target = [array.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return array.reshape(target)


def _squeeze(inputs: Arrays, attributes: Attributes) -> Value:
    axes = _option(inputs, attributes, 1, "axes")
    return np.squeeze(_given(inputs, 0), None if axes is None else tuple(axes))


def _unsqueeze(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    return np.expand_dims(_given(inputs, 0), tuple(_option(inputs, attributes, 1, "axes") or ()))


def _slice(inputs: Arrays, attributes: Attributes) -> Value:
    array = _given(inputs, 0)
    starts = _option(inputs, attributes, 1, "starts") or []
    ends = _option(inputs, attributes, 2, "ends") or []
    axes = _option(inputs, attributes, 3, "axes") or list(range(len(starts)))
    steps = _option(inputs, attributes, 4, "steps") or [1] * len(starts)
    index = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A far negative end means "through the first element" when walking backwards.
        stop = None if step < 0 and end < -array.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return array[tuple(index)]


def _gather(inputs: Arrays, attributes: Attributes) -> Value:
    array, indices = _given(inputs, 0), _given(inputs, 1)
    _limit((array.size, max(indices.size, 1)))
    return np.take(array, indices.astype(np.int64), axis=attributes.get("axis", 0))


def _concat(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    arrays = [_given(inputs, position) for position in range(len(inputs))]
    return np.concatenate(arrays, axis=attributes.get("axis", 1))


def _split(inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
    array, axis = _given(inputs, 0), attributes.get("axis", 0)
    sizes = _option(inputs, attributes, 1, "split")
    if sizes is None:
        raise ValueError("an even split depends on the number of outputs")
    return np.split(array, np.cumsum(sizes)[:-1], axis=axis)


def _fill(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    shape = _limit([int(size) for size in _given(inputs, 0).reshape(-1)])
    value = attributes.get("value")
    if value is None:
        return np.zeros(shape, np.float32)
    return np.full(shape, np.asarray(value).reshape(-1)[0])


def _expand(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    array = _given(inputs, 0)
    target = [int(size) for size in _given(inputs, 1).reshape(-1)]
    shape = np.broadcast_shapes(array.shape, _limit(target))
    return np.broadcast_to(array, _limit(shape))


def _range(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    start, limit, delta = (_given(inputs, i).reshape(-1)[0] for i in range(3))
    count = max(ceil((float(limit) - float(start)) / float(delta)), 0)
    _limit((count,))
    return (start + np.arange(count) * delta).astype(_given(inputs, 0).dtype)


def _tile(inputs: Arrays, attributes: Attributes) -> np.ndarray:
    array, repeats = _given(inputs, 0), [int(n) for n in _given(inputs, 1).reshape(-1)]
    _limit((array.size, *repeats))
    return np.tile(array, repeats)


def _where(inputs: Arrays, attributes: Attributes) -> Value:
    return np.where(_given(inputs, 0), _given(inputs, 1), _given(inputs, 2))


def _clip(inputs: Arrays, attributes: Attributes) -> Value:
    array = _given(inputs, 0)
    low = inputs[1] if len(inputs) > 1 else attributes.get("min")
    high = inputs[2] if len(inputs) > 2 else attributes.get("max")
    array = array if low is None else np.maximum(array, low)
    return array if high is None else np.minimum(array, high)


def _pointwise(function: Callable[..., Value]) -> Callable[[Arrays, Attributes], Value]:
    def rule(inputs: Arrays, attributes: Attributes) -> Value:
        return function(*(_given(inputs, position) for position in range(len(inputs))))

    return rule


def _folding(function: Callable[..., Value]) -> Callable[[Arrays, Attributes], Value]:
    """`Min`, `Max`, `Sum`: any number of operands."""

    def rule(inputs: Arrays, attributes: Attributes) -> Value:
        result: Value = _given(inputs, 0)
        for position in range(1, len(inputs)):
            result = function(result, _given(inputs, position))
        return result

    return rule


def _reduction(function: Callable[..., Value]) -> Callable[[Arrays, Attributes], Value]:
    def rule(inputs: Arrays, attributes: Attributes) -> Value:
        array, axes = _given(inputs, 0), _option(inputs, attributes, 1, "axes")
        if not axes and attributes.get("noop_with_empty_axes"):
            return array
        kept = bool(attributes.get("keepdims", 1))
        reduced = function(array, axis=tuple(axes) if axes else None, keepdims=kept)
        return np.asarray(reduced).astype(array.dtype)

    return rule


#: Op types that compute shapes; with shapes and small constants as inputs they take no time.
FOLDABLE: dict[str, Callable[[Arrays, Attributes], Value | list[np.ndarray]]] = {
    "Identity": _pointwise(np.asarray),
    "Cast": _cast,
    "Add": _pointwise(np.add),
    "Sub": _pointwise(np.subtract),
    "Mul": _pointwise(np.multiply),
    "Div": _divide,
    "Mod": _modulo,
    "Pow": _power,
    "Neg": _pointwise(np.negative),
    "Abs": _pointwise(np.abs),
    "Sign": _pointwise(np.sign),
    "Floor": _pointwise(np.floor),
    "Ceil": _pointwise(np.ceil),
    "Round": _pointwise(np.round),
    "Sqrt": _pointwise(np.sqrt),
    "Reciprocal": _pointwise(np.reciprocal),
    "Min": _folding(np.minimum),
    "Max": _folding(np.maximum),
    "Sum": _folding(np.add),
    "Clip": _clip,
    "Equal": _pointwise(np.equal),
    "Greater": _pointwise(np.greater),
    "GreaterOrEqual": _pointwise(np.greater_equal),
    "Less": _pointwise(np.less),
    "LessOrEqual": _pointwise(np.less_equal),
    "And": _pointwise(np.logical_and),
    "Or": _pointwise(np.logical_or),
    "Not": _pointwise(np.logical_not),
    "Where": _where,
    "ReduceProd": _reduction(np.prod),
    "ReduceSum": _reduction(np.sum),
    "ReduceMax": _reduction(np.max),
    "ReduceMin": _reduction(np.min),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": lambda inputs, attributes: np.transpose(_given(inputs, 0), attributes.get("perm")),
    "NonZero": lambda inputs, attributes: np.array(np.nonzero(_given(inputs, 0)), np.int64),
    "ConstantOfShape": _fill,
    "Expand": _expand,
    "Range": _range,
    "Tile": _tile,
}
