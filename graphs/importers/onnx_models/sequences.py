"""Sequences of tensors, element by element, as long as their sizes are known before a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, TypeProto

from graphs.costs.work import TensorSpec
from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.values import OnnxValue, checked_spec, constant_value, dtype_of

Inputs = Sequence[OnnxValue | None]
Specs = tuple[TensorSpec, ...]

#: What operands that no valid op has lead to; onnx's inference then says what is wrong.
_RULE_ERRORS = (IndexError, KeyError, ValueError, TypeError, OverflowError)
#: A sequence of more tensors than that is a mistake somewhere.
_LONGEST = 1 << 16


def sequence_outputs(
    node: NodeProto, inputs: Inputs, attributes: Mapping[str, Any]
) -> list[OnnxValue] | None:
    """The outputs of an op on sequences, or None where lengths or sizes are not known.

    Args:
        node: any node.
        inputs: the values of its inputs.
        attributes: its attributes.
    """
    if standard_domain(node.domain):
        return None
    try:
        return _outputs(node, inputs, attributes)
    except _RULE_ERRORS:
        return None


def _outputs(
    node: NodeProto, inputs: Inputs, attributes: Mapping[str, Any]
) -> list[OnnxValue] | None:
    if node.op_type == "SequenceEmpty":
        return [sequence_value((), int(attributes.get("dtype", TensorProto.FLOAT)))]
    first = inputs[0] if inputs else None
    if first is None:
        return None
    match node.op_type:
        case "SequenceConstruct":
            values = [value for value in inputs if value is not None]
            assumed = any(value.assumed for value in values)
            specs = tuple(value.spec for value in values)
            return [sequence_value(specs, first.elem_type, assumed=assumed)]
        case "SplitToSequence":
            specs_or_none = _split(first, inputs, attributes)
            if specs_or_none is None or len(specs_or_none) > _LONGEST:
                return None
            return [sequence_value(specs_or_none, first.elem_type, assumed=first.assumed)]
        case "Optional" if first.elements is not None:
            kind = TypeProto()
            kind.optional_type.elem_type.CopyFrom(first.type)
            return [replace(first, given_type=kind)]
        case "Identity" | "OptionalGetElement" if first.elements is not None:
            return [sequence_value(first.elements, first.elem_type, assumed=first.assumed)]
    if first.elements is None:
        return None
    return _of_known_elements(node, first, first.elements, inputs, attributes)


def _of_known_elements(
    node: NodeProto,
    first: OnnxValue,
    elements: Specs,
    inputs: Inputs,
    attributes: Mapping[str, Any],
) -> list[OnnxValue] | None:
    position = 2 if node.op_type == "SequenceInsert" else 1
    index = _index(inputs, position)
    is_open = index is None and position < len(inputs) and inputs[position] is not None
    match node.op_type:
        case "SequenceLength":
            length = np.array(len(elements), np.int64)
            return [constant_value(length, assumed=first.assumed, shape_like=True)]
        case "SequenceAt" if elements:
            # Which one is open, where the position is: the largest is an upper estimate.
            same = len(set(elements)) == 1
            chosen = max(elements, key=lambda spec: spec.bytes)
            if index is not None and -len(elements) <= index < len(elements):
                chosen, same = elements[index], True
            return [OnnxValue(chosen, first.elem_type, assumed=first.assumed or not same)]
        case "SequenceInsert" if inputs[1] is not None:
            at = len(elements) if index is None else index
            at += len(elements) if at < 0 else 0
            longer = (*elements[:at], inputs[1].spec, *elements[at:])
            elem_type = first.elem_type if elements else inputs[1].elem_type
            assumed = first.assumed or inputs[1].assumed or is_open
            return [sequence_value(longer, elem_type, assumed=assumed)]
        case "SequenceErase" if elements:
            at = -1 if index is None else index
            at += len(elements) if at < 0 else 0
            left = (*elements[:at], *elements[at + 1 :])
            return [sequence_value(left, first.elem_type, assumed=first.assumed or is_open)]
        case "ConcatFromSequence" if elements:
            spec = _concatenated(elements, attributes)
            return (
                None if spec is None else [OnnxValue(spec, first.elem_type, assumed=first.assumed)]
            )
    return None


def sequence_value(elements: Specs, elem_type: int, *, assumed: bool = False) -> OnnxValue:
    """A sequence of tensors of one element type."""
    kind = TypeProto()
    tensor = kind.sequence_type.elem_type.tensor_type
    tensor.elem_type = elem_type
    shapes = [spec.shape for spec in elements]
    if shapes and len({len(shape) for shape in shapes}) == 1:
        tensor.shape.SetInParent()
        for sizes in zip(*shapes, strict=True):
            dim = tensor.shape.dim.add()
            if len(set(sizes)) == 1:
                dim.dim_value = sizes[0]
    largest = max(
        elements, key=lambda spec: spec.bytes, default=TensorSpec((), dtype_of(elem_type))
    )
    return OnnxValue(largest, elem_type, assumed=assumed, given_type=kind, elements=elements)


def grown(before: OnnxValue, after: OnnxValue, trips: int) -> OnnxValue:
    """A sequence that a loop carries and that each trip makes longer by the same tensors."""
    if before.elements is None or after.elements is None or trips < 1:
        return after
    added = after.elements[len(before.elements) :]
    steady = after.elements[: len(before.elements)] == before.elements
    if not steady or len(added) * trips > _LONGEST:
        return after
    elements = (*before.elements, *added * trips)
    return sequence_value(elements, after.elem_type, assumed=after.assumed)


def element(value: OnnxValue, index: int) -> OnnxValue:
    """One tensor of a sequence; of a plain tensor itself."""
    if value.given_type is None:
        return value
    spec = value.spec if value.elements is None else value.elements[index]
    return replace(value, spec=spec, given_type=None, elements=None, constant=None)


def _index(inputs: Inputs, position: int) -> int | None:
    value = inputs[position] if position < len(inputs) else None
    if value is None or value.constant is None or value.constant.size != 1:
        return None
    return int(value.constant.reshape(-1)[0])


def _split(value: OnnxValue, inputs: Inputs, attributes: Mapping[str, Any]) -> Specs | None:
    shape = value.spec.shape
    axis = attributes.get("axis", 0)
    if not shape or not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    split = inputs[1] if len(inputs) > 1 else None
    keeps = True
    if split is None:
        sizes = [1] * shape[axis]
        keeps = bool(attributes.get("keepdims", 1))
    elif split.constant is None:
        return None
    elif split.constant.ndim:
        sizes = [int(size) for size in split.constant]
    else:
        chunk = int(split.constant)
        if chunk < 1:
            return None
        sizes = [min(chunk, shape[axis] - start) for start in range(0, shape[axis], chunk)]
    head, tail = shape[:axis], shape[axis + 1 :]
    return tuple(
        checked_spec("", (*head, size, *tail) if keeps else (*head, *tail), value.elem_type)
        for size in sizes
    )


def _concatenated(elements: Specs, attributes: Mapping[str, Any]) -> TensorSpec | None:
    shapes = [spec.shape for spec in elements]
    rank, axis = len(shapes[0]), attributes.get("axis", 0)
    if any(len(shape) != rank for shape in shapes):
        return None
    if attributes.get("new_axis"):
        shape = list(shapes[0])
        shape.insert(axis if axis >= 0 else rank + 1 + axis, len(shapes))
    elif -rank <= axis < rank:
        shape = list(shapes[0])
        shape[axis] = sum(item[axis] for item in shapes)
    else:
        return None
    return TensorSpec(tuple(shape), elements[0].dtype)
