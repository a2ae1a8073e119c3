"""Tensors of an ONNX model under import: what is known of each, and of stored weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
from onnx import NodeProto, SparseTensorProto, TensorProto, TypeProto, helper, numpy_helper

from graphs.costs.work import LARGEST_ELEMENTS, TensorSpec
from graphs.errors import ModelError
from graphs.importers.onnx_models.file import read_external
from graphs.kinds import DType

#: Tensors of at most so many elements are evaluated; they steer shapes, not arithmetic.
SMALL_ELEMENTS = 1024
#: Operands up to this size are attributes in all but name, and no weights.
TINY_BYTES = 64

_DTYPES = {
    TensorProto.FLOAT: DType.FLOAT32,
    TensorProto.UINT8: DType.INT8,
    TensorProto.INT8: DType.INT8,
    TensorProto.UINT16: DType.INT16,
    TensorProto.INT16: DType.INT16,
    TensorProto.INT32: DType.INT32,
    TensorProto.INT64: DType.INT64,
    TensorProto.STRING: DType.STRING,
    TensorProto.BOOL: DType.BOOL,
    TensorProto.FLOAT16: DType.FLOAT16,
    TensorProto.DOUBLE: DType.FLOAT64,
    TensorProto.UINT32: DType.INT32,
    TensorProto.UINT64: DType.INT64,
    TensorProto.COMPLEX64: DType.COMPLEX64,
    TensorProto.COMPLEX128: DType.COMPLEX128,
    TensorProto.BFLOAT16: DType.BFLOAT16,
}
#: By name, since the oldest supported onnx lacks the newest types; narrower than 4 bits as 4.
_NAMED_DTYPES = {
    "FLOAT8E4M3FN": DType.FLOAT8,
    "FLOAT8E4M3FNUZ": DType.FLOAT8,
    "FLOAT8E5M2": DType.FLOAT8,
    "FLOAT8E5M2FNUZ": DType.FLOAT8,
    "FLOAT8E8M0": DType.FLOAT8,
    "UINT4": DType.INT4,
    "INT4": DType.INT4,
    "FLOAT4E2M1": DType.INT4,
    "UINT2": DType.INT4,
    "INT2": DType.INT4,
}


@dataclass(frozen=True)
class OnnxValue:
    """One tensor or a sequence of them, with all dimensions known or assumed."""

    spec: TensorSpec
    elem_type: int
    """ONNX's number of the element type."""
    constant: np.ndarray | None = None
    """The tensor itself, where it is small and known before the model runs."""
    assumed: bool = False
    """Whether the shape rests on an assumption."""
    shape_like: bool = False
    """Whether the value is arithmetic on shapes."""
    fixed: bool = False
    """Whether the value is known once the model is loaded: a weight, or made of weights alone."""
    guessed_type: bool = False
    """Whether nothing in the model tells the element type."""
    given_type: TypeProto | None = None
    """The full type of what is not a plain tensor: a sequence, an optional, a map."""
    elements: tuple[TensorSpec, ...] | None = None
    """Of a sequence, its tensors, where they are known; `spec` is the largest of them."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """All tensors that it holds."""
        return (self.spec,) if self.elements is None else self.elements

    @property
    def bytes(self) -> int:
        """Of a sequence the sum over its tensors."""
        return sum(spec.bytes for spec in self.specs)

    @cached_property
    def type(self) -> TypeProto:
        if self.given_type is not None:
            return self.given_type
        return helper.make_tensor_type_proto(self.elem_type, self.spec.shape)


def dtype_of(elem_type: int) -> DType:
    """The IR's type for an ONNX element type.

    Raises:
        ModelError: no such element type.
    """
    if elem_type in _DTYPES:
        return _DTYPES[elem_type]
    names = {number: name for name, number in TensorProto.DataType.items()}
    name = names.get(elem_type, "")
    if name not in _NAMED_DTYPES:
        raise ModelError(f"element type {elem_type} ({name or 'unknown'}) is not a tensor type")
    return _NAMED_DTYPES[name]


def checked_spec(name: str, shape: Sequence[int], elem_type: int) -> TensorSpec:
    """A spec whose dimensions are sane.

    Raises:
        ModelError: a negative dimension, an absurd size, or an unknown element type.
    """
    if any(size < 0 for size in shape):
        raise ModelError(f"tensor {name!r} has shape {list(shape)}; dimensions cannot be negative")
    if prod(max(size, 1) for size in shape) > LARGEST_ELEMENTS:
        raise ModelError(
            f"tensor {name!r} has shape {list(shape)}, more than 2**48 elements; no device can "
            "hold it"
        )
    return TensorSpec(tuple(shape), dtype_of(elem_type))


def constant_value(array: np.ndarray, *, assumed: bool, shape_like: bool) -> OnnxValue:
    """The value of a small tensor that was computed here."""
    elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    spec = TensorSpec(tuple(array.shape), dtype_of(elem_type))
    return OnnxValue(spec, elem_type, array, assumed, shape_like)


def stored_value(tensor: TensorProto, folder: Path | None, name: str | None = None) -> OnnxValue:
    """The value of an initializer; the data are read only where they are small.

    Raises:
        ModelError: its shape, type or data contradict each other.
    """
    name = tensor.name if name is None else name
    spec = checked_spec(name, tensor.dims, tensor.data_type)
    if spec.elements > SMALL_ELEMENTS or spec.dtype == DType.STRING:
        return OnnxValue(spec, tensor.data_type)
    if tensor.data_location == TensorProto.EXTERNAL:
        data = None if folder is None else read_external(tensor, folder, spec.bytes)
        if data is None:
            return OnnxValue(spec, tensor.data_type)
        tensor = TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=data)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, NotImplementedError) as err:
        raise ModelError(
            f"weight {name!r} of shape {list(tensor.dims)} does not fit its stored data ({err})"
        ) from err
    return OnnxValue(spec, tensor.data_type, array)


def sparse_value(sparse: SparseTensorProto) -> OnnxValue:
    """A sparse initializer, sized as if it were dense."""
    spec = checked_spec(sparse.values.name, sparse.dims, sparse.values.data_type)
    return OnnxValue(spec, sparse.values.data_type)


def constant_node_value(node: NodeProto, folder: Path | None) -> OnnxValue:
    """The value of a `Constant` node, whichever of its attributes holds it.

    Raises:
        ModelError: no attribute holds a value.
    """
    name = node.output[0] if node.output else node.name
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return stored_value(attribute.t, folder, name)
            case "sparse_value":
                return sparse_value(attribute.sparse_tensor)
            case "value_int":
                return _literal(np.array(attribute.i, np.int64))
            case "value_ints":
                return _literal(np.array(attribute.ints, np.int64))
            case "value_float":
                return _literal(np.array(attribute.f, np.float32))
            case "value_floats":
                return _literal(np.array(attribute.floats, np.float32))
            case "value_string":
                return OnnxValue(TensorSpec((), DType.STRING), TensorProto.STRING)
            case "value_strings":
                spec = TensorSpec((len(attribute.strings),), DType.STRING)
                return OnnxValue(spec, TensorProto.STRING)
    raise ModelError(f"Constant {name!r} has no value; it needs one of ONNX's value attributes")


def _literal(array: np.ndarray) -> OnnxValue:
    value = constant_value(array, assumed=False, shape_like=False)
    if array.size > SMALL_ELEMENTS:
        return OnnxValue(value.spec, value.elem_type)
    return value
