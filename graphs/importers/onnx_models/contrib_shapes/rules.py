"""The words in which shape rules of foreign ops are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from graphs.importers.onnx_models.values import OnnxValue

Shape = tuple[int, ...]
Inputs = Sequence[OnnxValue | None]
Attributes = Mapping[str, Any]
#: Of an output that a rule knows: its shape, None where only running the op tells; element type.
Known = tuple[Shape | None, int]
#: One entry for each output, in order; None where a rule knows nothing.
Outputs = list[Known | None]
Rule = Callable[[Inputs, Attributes], Outputs]

BOOL = int(TensorProto.BOOL)
FLOAT = int(TensorProto.FLOAT)
INT8 = int(TensorProto.INT8)
INT32 = int(TensorProto.INT32)
INT64 = int(TensorProto.INT64)
UINT8 = int(TensorProto.UINT8)
UINT32 = int(TensorProto.UINT32)


def number(attributes: Attributes, name: str, default: int | None = None) -> int:
    """An attribute that is a whole number; `default` where it is absent.

    Raises:
        KeyError: it is absent, and there is no default.
        ValueError: it is something else; the output then stays unknown.
    """
    value = attributes.get(name, default)
    if value is None:
        raise KeyError(name)
    return _whole(name, value)


def numbers(attributes: Attributes, name: str) -> list[int]:
    """An attribute that lists whole numbers; errors as of `number`."""
    values = attributes[name]
    if not isinstance(values, list):
        raise ValueError(f"attribute {name} is {values!r:.80}; it must be a list")
    return [_whole(name, value) for value in values]


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"attribute {name} is {value!r:.80}; it must be a whole number")
    return value


def required(inputs: Inputs, position: int) -> OnnxValue:
    """An input that the rule cannot do without.

    Raises:
        ValueError: it is absent; the output then stays unknown.
    """
    value = optional(inputs, position)
    if value is None:
        raise ValueError("a required input is absent")
    return value


def optional(inputs: Inputs, position: int) -> OnnxValue | None:
    """An input that may be absent."""
    return inputs[position] if position < len(inputs) else None


def shape_at(inputs: Inputs, position: int) -> Shape:
    """Shape of a required input."""
    return required(inputs, position).spec.shape


def type_at(inputs: Inputs, position: int, default: int | None = None) -> int:
    """Element type of an input; of an absent one the default, where there is one."""
    value = optional(inputs, position)
    if value is None and default is not None:
        return default
    return required(inputs, position).elem_type


def known_at(inputs: Inputs, position: int) -> Known:
    """Shape and element type of a required input."""
    return shape_at(inputs, position), type_at(inputs, position)


def numbers_at(inputs: Inputs, position: int) -> list[int] | None:
    """The whole numbers that an input holds, where they are known before the model runs."""
    value = required(inputs, position)
    if value.constant is None:
        return None
    return [int(number) for number in value.constant.reshape(-1)]


def like(*positions: int, elem_type: int | None = None) -> Rule:
    """Output `i` has the shape of the input at `positions[i]`, and its type unless one is given."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        outputs: Outputs = []
        for position in positions:
            value = optional(inputs, position)
            kind = None if value is None else (value.spec.shape, elem_type or value.elem_type)
            outputs.append(kind)
        return outputs

    return rule


def each_like(first: int) -> Rule:
    """Every output is like the input in the same position, counted from `first`."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        return like(*range(first, len(inputs)))(inputs, attributes)

    return rule


def typed(position: int) -> Rule:
    """The first output has the type of an input, and a shape that only running the op tells."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        return [(None, type_at(inputs, position))]

    return rule


def broadcast(*positions: int, typed_like: int, elem_type: int | None = None) -> Rule:
    """NumPy's broadcasting of some inputs; the type of one, unless a type is given."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        shapes = [shape_at(inputs, position) for position in positions]
        return [(np.broadcast_shapes(*shapes), elem_type or type_at(inputs, typed_like))]

    return rule


def reduction(elem_type: int | None = None, axes_input: int | None = None) -> Rule:
    """Axes are dropped or kept as one; without axes all of them."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        shape = shape_at(inputs, 0)
        kind = elem_type or type_at(inputs, 0)
        axes = attributes.get("axes")
        if axes_input is not None:
            axes = numbers_at(inputs, axes_input)
            if axes is None:
                return [(None, kind)]
        reduced = {axis % len(shape) for axis in axes or range(len(shape))}
        if attributes.get("keepdims", 1):
            return [(tuple(1 if i in reduced else size for i, size in enumerate(shape)), kind)]
        return [(tuple(size for i, size in enumerate(shape) if i not in reduced), kind)]

    return rule
