"""TensorFlow's element types as graphwright's."""

from functools import cache

from tensorflow.core.framework import types_pb2

from graphs.kinds import DType

_REFERENCE = 100

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


def dtype_of(enum: int) -> DType:
    """Our element type for a TensorFlow DataType; references count as their values."""
    return _dtype(enum % _REFERENCE)


@cache
def _dtype(enum: int) -> DType:
    if enum not in types_pb2.DataType.values():
        return DType.RESOURCE
    return _DTYPES.get(types_pb2.DataType.Name(enum), DType.RESOURCE)
