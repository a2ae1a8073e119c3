"""The closed vocabularies of the IR: op kinds, phases, data types, tensor storage.

One vocabulary serves ONNX, TensorFlow and torch, so that costs, features and policies transfer
between them. The numbers are part of the graph file format: append, never renumber.
"""

from enum import IntEnum


class OpKind(IntEnum):
    """What an op does, as far as its cost and its fusion behaviour go."""

    MATMUL = 0
    CONV = 1
    CONV_GRAD = 2
    DEPTHWISE_CONV = 3
    RECURRENT = 4
    ATTENTION = 5
    ELEMENTWISE = 6
    ACTIVATION = 7
    CAST = 8
    REDUCE = 9
    SCAN = 10
    NORMALIZATION = 11
    NORMALIZATION_GRAD = 12
    SOFTMAX = 13
    LOSS = 14
    POOL = 15
    POOL_GRAD = 16
    GATHER = 17
    SCATTER = 18
    VIEW = 19
    TRANSPOSE = 20
    CONCAT = 21
    SPLIT = 22
    PAD = 23
    BROADCAST = 24
    RESIZE = 25
    SORT = 26
    RANDOM = 27
    QUANTIZE = 28
    SIGNAL = 29
    SHAPE = 30
    CONSTANT = 31
    VARIABLE = 32
    OPTIMIZER_UPDATE = 33
    ACCUMULATE = 34
    INPUT = 35
    OUTPUT = 36
    CONTROL = 37
    CONTROL_FLOW = 38
    COLLECTIVE = 39
    HOST = 40
    CUSTOM = 41


#: Kinds that start no kernel: they cost neither time nor a launch.
FREE_KINDS = frozenset(
    {
        OpKind.VIEW,
        OpKind.SHAPE,
        OpKind.CONSTANT,
        OpKind.VARIABLE,
        OpKind.INPUT,
        OpKind.OUTPUT,
        OpKind.CONTROL,
    }
)


class Phase(IntEnum):
    """The part of a training step that an op belongs to (inference is all forward)."""

    FORWARD = 0
    BACKWARD = 1
    UPDATE = 2


class Storage(IntEnum):
    """Where a tensor's bytes live while it is alive; it decides what memory is charged."""

    BUFFER = 0
    """A buffer of its own, on the producer's device and on each device it is sent to."""
    ALIAS = 1
    """Shares the buffer of one of its producer's inputs; a buffer of its own once sent."""
    RESIDENT = 2
    """Counted in the producer's resident bytes (a variable's value); a buffer once sent."""
    WEIGHT = 3
    """A constant loaded before the step: never sent, resident wherever it is consumed."""
    CONTROL = 4
    """An ordering edge: no bytes, only a link's latency when it crosses devices."""
    UNCOUNTED = 5
    """Its memory is part of a profiled resident figure: sent, but never charged again."""


class DType(IntEnum):
    """Element types, reduced to what costs depend on."""

    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2
    FLOAT64 = 3
    FLOAT8 = 4
    INT4 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    BOOL = 10
    COMPLEX64 = 11
    COMPLEX128 = 12
    STRING = 13
    RESOURCE = 14
    TF32 = 15
    """float32 in memory, multiplied on tensor cores with ten bits of mantissa."""

    @property
    def element_bytes(self) -> float:
        """Bytes of one element; strings count as a pointer and a short payload."""
        return _ELEMENT_BYTES[self]


_ELEMENT_BYTES = {
    DType.FLOAT32: 4.0,
    DType.FLOAT16: 2.0,
    DType.BFLOAT16: 2.0,
    DType.FLOAT64: 8.0,
    DType.FLOAT8: 1.0,
    DType.INT4: 0.5,
    DType.INT8: 1.0,
    DType.INT16: 2.0,
    DType.INT32: 4.0,
    DType.INT64: 8.0,
    DType.BOOL: 1.0,
    DType.COMPLEX64: 8.0,
    DType.COMPLEX128: 16.0,
    DType.STRING: 16.0,
    DType.RESOURCE: 0.0,
    DType.TF32: 4.0,
}
