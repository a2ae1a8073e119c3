"""Binds the open dimensions of an ONNX model's inputs to sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import TensorShapeProto, TypeProto, ValueInfoProto

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.dimensions import (
    assumed_size,
    evaluate_dimension,
    names_in,
    refuse_unknown_dims,
)
from graphs.importers.onnx_models.values import OnnxValue, checked_spec, dtype_of


@dataclass(frozen=True)
class Binding:
    """Sizes of the model's symbolic dimensions, and what had to be assumed."""

    sizes: Mapping[str, int]
    assumed: Mapping[str, int]
    inputs: Mapping[str, OnnxValue] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Inputs that state no shape at all."""


def bind_inputs(inputs: Sequence[ValueInfoProto], dims: Mapping[str, int], origin: str) -> Binding:
    """Give every input a full shape.

    A symbolic dimension is bound by its name, an unnamed one by `input[axis]`. A name that is
    arithmetic on other names of the model (`past + sequence`) follows from them.

    Raises:
        ModelError: the user names a dimension that the model lacks, or a size is negative.
    """
    open_dims = [
        (_label(value, axis, dim), axis, len(shape.dim))
        for value in inputs
        if (shape := shape_of(value.type)) is not None
        for axis, dim in enumerate(shape.dim)
        if not _is_fixed(dim)
    ]
    labels = {label for label, _, _ in open_dims}
    derived = {label: frozenset() if label.endswith("]") else names_in(label) for label in labels}
    known = frozenset(labels.union(*derived.values()))
    refuse_unknown_dims(dims, known, origin)
    sizes = dict(dims)
    assumed: dict[str, int] = {}
    for label, axis, rank in open_dims:
        if label in sizes or (derived[label] and derived[label] <= (labels | set(dims))):
            continue
        unnamed = label.endswith("]")
        sizes[label] = assumed_size(label, axis if unnamed else None, rank)
        assumed[label] = sizes[label]
    for label in sorted(labels - set(sizes)):
        size = evaluate_dimension(label, sizes)
        if size is None:
            size = assumed[label] = assumed_size(label)
        if size < 0:
            raise ModelError(f"{origin}: dimension {label!r} comes out as {size} with {sizes}")
        sizes[label] = size
    return Binding(
        sizes=sizes,
        assumed=assumed,
        inputs={value.name: _bound(value, sizes) for value in inputs},
        unknown=tuple(value.name for value in inputs if shape_of(value.type) is None),
    )


def tensor_type(kind: TypeProto) -> TypeProto.Tensor | None:
    """The tensor inside a type: itself, a sequence's or an optional's element."""
    for _ in range(4):  # optional(sequence(tensor)) is the deepest that ONNX has
        match kind.WhichOneof("value"):
            case "tensor_type":
                return kind.tensor_type
            case "sparse_tensor_type":
                sparse = kind.sparse_tensor_type
                return TypeProto.Tensor(elem_type=sparse.elem_type, shape=sparse.shape)
            case "sequence_type":
                kind = kind.sequence_type.elem_type
            case "optional_type":
                kind = kind.optional_type.elem_type
            case _:
                return None
    return None


def shape_of(kind: TypeProto) -> TensorShapeProto | None:
    """The stated shape of a type, or None where it states none."""
    tensor = tensor_type(kind)
    return tensor.shape if tensor is not None and tensor.HasField("shape") else None


def stated_dims(kind: TypeProto, sizes: Mapping[str, int]) -> list[int | None] | None:
    """The dimensions of a type with symbols replaced; None for each that stays open."""
    shape = shape_of(kind)
    if shape is None:
        return None
    return [dim.dim_value if _is_fixed(dim) else sizes.get(dim.dim_param) for dim in shape.dim]


def _is_fixed(dim: TensorShapeProto.Dimension) -> bool:
    """Whether a dimension has a size; some exporters write an open one as -1."""
    return dim.HasField("dim_value") and dim.dim_value != -1


def _label(value: ValueInfoProto, axis: int, dim: TensorShapeProto.Dimension) -> str:
    return dim.dim_param or f"{value.name}[{axis}]"


def _bound(value: ValueInfoProto, sizes: Mapping[str, int]) -> OnnxValue:
    tensor, shape = tensor_type(value.type), shape_of(value.type)
    plain = value.type.WhichOneof("value") == "tensor_type"
    if tensor is None or not tensor.elem_type:
        if plain or value.type.WhichOneof("value") is None:
            raise ModelError(f"input {value.name!r} states no element type")
        return OnnxValue(TensorSpec(()), 1, assumed=True, given_type=value.type)
    if shape is None:
        spec = TensorSpec((), dtype_of(tensor.elem_type))
        return OnnxValue(spec, tensor.elem_type, assumed=True, given_type=value.type)
    filled = [
        dim.dim_value if _is_fixed(dim) else sizes[_label(value, axis, dim)]
        for axis, dim in enumerate(shape.dim)
    ]
    spec = checked_spec(value.name, filled, tensor.elem_type)
    return OnnxValue(spec, tensor.elem_type, given_type=None if plain else value.type)
