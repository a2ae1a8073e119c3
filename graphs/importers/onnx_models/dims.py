"""Binds the open dimensions of an ONNX model's inputs to sizes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import TensorShapeProto, TypeProto, ValueInfoProto

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.dimensions import (
    assumed_size,
    evaluate_dimension,
    is_name,
    names_in,
    refuse_unknown_dims,
)
from graphs.importers.onnx_models.values import OnnxValue, checked_spec, dtype_of

#: Inputs that hold what earlier steps left behind, nothing at first.
_CACHE_NAMES = re.compile("past|cache|state|memory|mem_", re.IGNORECASE)


@dataclass(frozen=True)
class Binding:
    """Sizes of the model's symbolic dimensions, and what had to be assumed."""

    sizes: Mapping[str, int]
    assumed: Mapping[str, int]
    inputs: Mapping[str, OnnxValue] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Inputs that state no shape at all."""
    notes: tuple[str, ...] = ()
    """What the user should know of the dimensions."""


@dataclass(frozen=True)
class _OpenDim:
    """One dimension of an input that the model leaves open."""

    label: str
    """What the user binds it by: its name, or `input[axis]`."""
    symbol: str
    """What stands in its place in the file, such as `?`; nothing or a name as a rule."""
    axis: int
    rank: int
    is_named: bool
    states_zero: bool
    is_side: bool
    """Whether it is one of the last two of four dimensions, none of which is stated."""

    @property
    def default(self) -> int:
        """The size where the user says nothing.

        Old exporters write 0 for a batch or the sides of an image, "to be filled in". Any other
        dimension of 0 may well be meant, such as the length of a cache that is still empty.
        """
        if self.states_zero and self.axis and not self.is_side:
            return 0
        return assumed_size(self.label if self.is_named else "", self.axis, self.rank)


def bind_inputs(inputs: Sequence[ValueInfoProto], dims: Mapping[str, int], origin: str) -> Binding:
    """Give every input a full shape.

    A symbolic dimension is bound by its name, an unnamed one by `input[axis]`; `?`, -1 and 0 are no
    names, and a number in the place of a name is that number. A name that is arithmetic on other
    names of the model (`past + sequence`) follows from them.

    Raises:
        ModelError: the user names a dimension that the model lacks, or a size is negative.
    """
    open_dims = [
        _open_dim(value, axis, shape.dim)
        for value in inputs
        if (shape := shape_of(value.type)) is not None
        for axis, dim in enumerate(shape.dim)
        if _fixed_size(dim) is None
    ]
    labels = {dim.label for dim in open_dims}
    derived = {d.label: names_in(d.label) if d.is_named else frozenset() for d in open_dims}
    placeholders = {dim.symbol for dim in open_dims if dim.symbol and not dim.is_named}
    refuse_unknown_dims(dims, frozenset(labels.union(placeholders, *derived.values())), origin)
    sizes = dict(dims)
    assumed: dict[str, int] = {}
    defaults: dict[str, int] = {}
    for dim in open_dims:
        label = dim.label
        defaults.setdefault(label, dim.default)
        if label in sizes or (derived[label] and derived[label] <= (labels | set(dims))):
            continue
        if dim.symbol in dims and not dim.is_named:
            sizes[label] = dims[dim.symbol]
            continue
        sizes[label] = assumed[label] = defaults[label]
    for label in sorted(labels - set(sizes)):
        size = evaluate_dimension(label, sizes)
        if size is None:
            size = assumed[label] = defaults[label]
        if size < 0:
            raise ModelError(f"{origin}: dimension {label!r} comes out as {size} with {sizes}")
        sizes[label] = size
    return Binding(
        sizes=sizes,
        assumed=assumed,
        inputs={value.name: _bound(value, sizes) for value in inputs},
        unknown=tuple(value.name for value in inputs if shape_of(value.type) is None),
        notes=tuple(_notes_on_zeros(open_dims, assumed)),
    )


def _notes_on_zeros(open_dims: Sequence[_OpenDim], assumed: Mapping[str, int]) -> list[str]:
    zeros = [dim.label for dim in open_dims if dim.states_zero and dim.label in assumed]
    opened = [label for label in zeros if assumed[label]]
    empty = [label for label in zeros if not assumed[label]]
    notes = []
    if opened:
        notes.append(
            f"The model states a size of 0 for {', '.join(opened)}, as old exporters do for what "
            f"is to be filled in; taken as open (--dim {opened[0]}=...)."
        )
    if empty:
        notes.append(
            f"The model states a size of 0 for {', '.join(empty)}; taken at its word, so that what "
            f"is computed of it is nothing (--dim {empty[0]}=... states another)."
        )
    return notes


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
    return [_stated_size(dim, sizes) for dim in shape.dim]


def _stated_size(dim: TensorShapeProto.Dimension, sizes: Mapping[str, int]) -> int | None:
    if dim.HasField("dim_value") and dim.dim_value == 0:
        return 0
    size = _fixed_size(dim)
    if size is None and is_name(dim.dim_param):
        return sizes.get(dim.dim_param)
    return size


def _fixed_size(dim: TensorShapeProto.Dimension) -> int | None:
    """The size that a dimension states; some exporters write an open one as -1 or 0."""
    if dim.HasField("dim_value"):
        return None if dim.dim_value in (-1, 0) else dim.dim_value
    number = dim.dim_param.strip()
    return int(number) if number.isdecimal() and int(number) else None


def _open_dim(
    value: ValueInfoProto, axis: int, dims: Sequence[TensorShapeProto.Dimension]
) -> _OpenDim:
    dim, rank = dims[axis], len(dims)
    symbol = dim.dim_param
    zero = (dim.HasField("dim_value") and dim.dim_value == 0) or symbol.strip() == "0"
    is_named = is_name(symbol) and not zero
    label = symbol if is_named else f"{value.name}[{axis}]"
    sides = dims[2:] if rank == 4 and axis >= 2 and not _CACHE_NAMES.search(value.name) else ()
    is_side = bool(sides) and all(_fixed_size(side) is None for side in sides)
    return _OpenDim(label, symbol, axis, rank, is_named, zero, is_side)


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
        sizes[_open_dim(value, axis, shape.dim).label] if size is None else size
        for axis, dim in enumerate(shape.dim)
        for size in [_fixed_size(dim)]
    ]
    spec = checked_spec(value.name, filled, tensor.elem_type)
    return OnnxValue(spec, tensor.elem_type, given_type=None if plain else value.type)
