"""Layers that several families share: they append ops to a tape and return values."""

from collections.abc import Sequence
from math import ceil

from graphs.families.tape import Tape
from graphs.families.values import Shape, TapeValue
from graphs.kinds import DType, Phase


def scale(tape: Tape, x: TapeValue) -> TapeValue:
    """Times a constant."""
    return tape.op("Mul", (x, tape.constant((), DType.FLOAT32)), x.shape)


def shift(tape: Tape, x: TapeValue) -> TapeValue:
    """Plus a constant."""
    return tape.op("AddV2", (x, tape.constant((), DType.FLOAT32)), x.shape)


def activation(tape: Tape, x: TapeValue, kind: str) -> TapeValue:
    """`relu`, `relu6`, `tanh`, `sigmoid`; `silu` and `gelu` as x times a sigmoid."""
    if kind == "silu":
        return tape.op("Mul", (x, tape.op("Sigmoid", (x,))))
    if kind == "gelu":
        return tape.op("Mul", (x, tape.op("Sigmoid", (scale(tape, x),))))
    return tape.op(kind.capitalize(), (x,))


def reshape(tape: Tape, x: TapeValue, shape: Shape) -> TapeValue:
    """The same numbers in another shape."""
    return tape.op("Reshape", (x, tape.constant((len(shape),))), shape)


def transpose(tape: Tape, x: TapeValue, order: Sequence[int]) -> TapeValue:
    """Axes in another order."""
    shape = tuple(x.shape[axis] for axis in order)
    return tape.op("Transpose", (x, tape.constant((len(order),))), shape)


def concatenate(tape: Tape, parts: Sequence[TapeValue]) -> TapeValue:
    """Joined along the last axis; a single part is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return tape.op("ConcatV2", (*parts, tape.constant()), shape)


def split(tape: Tape, x: TapeValue, parts: int) -> tuple[TapeValue, ...]:
    """Equal parts along the last axis."""
    spec = tape.spec((*x.shape[:-1], x.shape[-1] // parts))
    return tape.multi_op("Split", (tape.constant(), x), [spec] * parts)


def cut_slice(tape: Tape, x: TapeValue, shape: Shape) -> TapeValue:
    """A part of x with the given shape."""
    bounds = [tape.constant((len(shape),)) for _ in range(3)]
    return tape.op("StridedSlice", (x, *bounds), shape)


def mean(tape: Tape, x: TapeValue, axes: Sequence[int], keep: bool = False) -> TapeValue:
    """Mean over axes."""
    return _reduction(tape, "Mean", x, axes, keep)


def total(tape: Tape, x: TapeValue, axes: Sequence[int], keep: bool = False) -> TapeValue:
    """Sum over axes."""
    return _reduction(tape, "Sum", x, axes, keep)


def _reduction(
    tape: Tape, op_type: str, x: TapeValue, axes: Sequence[int], keep: bool
) -> TapeValue:
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    shape = kept if keep else tuple(s for axis, s in enumerate(x.shape) if axis not in axes)
    return tape.op(op_type, (x, tape.constant((len(axes),))), shape, {"kept": kept})


def dense(
    tape: Tape, name: str, x: TapeValue, units: int, bias: bool = True, kind: str | None = None
) -> TapeValue:
    """A fully connected layer over the last axis of a matrix."""
    with tape.scope(name):
        y = tape.op("MatMul", (x, tape.weight("kernel", (x.shape[-1], units))),
                    (*x.shape[:-1], units))  # fmt: skip
        if bias:
            y = tape.op("BiasAdd", (y, tape.weight("bias", (units,))), y.shape)
        return activation(tape, y, kind) if kind else y


def embedding(tape: Tape, name: str, tokens: TapeValue, vocabulary: int, width: int) -> TapeValue:
    """Rows of a trained table."""
    with tape.scope(name):
        table = tape.weight("table", (vocabulary, width))
        return tape.op("GatherV2", (table, tokens, tape.constant()), (*tokens.shape, width))


def unstack(tape: Tape, x: TapeValue) -> tuple[TapeValue, ...]:
    """`[batch, steps, ...]` as a value for each step."""
    spec = tape.spec((x.shape[0], *x.shape[2:]), x.spec.dtype)
    return tape.multi_op("Unpack", (x,), [spec] * x.shape[1])


def token_loss(tape: Tape, logits: TapeValue, labels: TapeValue) -> TapeValue:
    """Mean cross entropy; in inference the probabilities."""
    if not tape.training:
        return tape.op("Softmax", (logits,))
    specs = (tape.spec(logits.shape[:-1]), logits.spec)
    losses = tape.multi_op("SparseSoftmaxCrossEntropyWithLogits", (logits, labels), specs)[0]
    return mean(tape, losses, range(len(losses.shape)))


def add_up(tape: Tape, values: Sequence[TapeValue]) -> TapeValue:
    """The sum of all; a single value is returned as it is."""
    return tape.op("AddN", values) if len(values) > 1 else values[0]


def dropout(tape: Tape, x: TapeValue) -> TapeValue:
    """Zeroes a random share in training; nothing in inference."""
    if not tape.training:
        return x
    kept = scale(tape, x)
    noise = tape.op("RandomUniform", (tape.constant((len(x.shape),)),), x.shape)
    mask = tape.op(
        "GreaterEqual", (noise, tape.constant((), DType.FLOAT32)), x.shape, dtype=DType.BOOL
    )
    return tape.op("SelectV2", (mask, kept, tape.constant((), DType.FLOAT32)), x.shape)


def layer_norm(tape: Tape, name: str, x: TapeValue, centred: bool = True) -> TapeValue:
    """Layer normalisation over the last axis, or, not centred, by the root mean square."""
    with tape.scope(name):
        last = (len(x.shape) - 1,)
        width = x.shape[-1:]
        if centred:
            middle = mean(tape, x, last, keep=True)
            spread = mean(tape, tape.op("SquaredDifference", (x, middle)), last, keep=True)
            x = tape.op("Sub", (x, middle))
        else:
            spread = mean(tape, tape.op("Mul", (x, x)), last, keep=True)
        x = tape.op("Mul", (x, tape.op("Rsqrt", (shift(tape, spread),))))
        x = tape.op("Mul", (x, tape.weight("scale", width)))
        return tape.op("AddV2", (x, tape.weight("offset", width))) if centred else x


def convolution(
    tape: Tape, x: TapeValue, filters: int, kernel: tuple[int, int] = (3, 3), stride: int = 1,
    depthwise: bool = False,
) -> TapeValue:  # fmt: skip
    """A convolution of `[batch, height, width, channels]` without bias, padded to its size."""
    batch, height, width, channels = x.shape
    shape = (batch, ceil(height / stride), ceil(width / stride), filters)
    if depthwise:
        weight = tape.weight("depthwise", (*kernel, channels, 1))
        return tape.op("DepthwiseConv2dNative", (x, weight), shape)
    return tape.op("Conv2D", (x, tape.weight("filters", (*kernel, channels, filters))), shape)


def batch_norm(tape: Tape, x: TapeValue) -> TapeValue:
    """Batch normalisation; in training it also keeps moving averages."""
    channels = x.shape[-1:]
    with tape.scope("bn"):
        spec = tape.spec(channels)
        gain, offset = tape.weight("scale", channels), tape.weight("offset", channels)
        if not tape.training:
            averages = [tape.variable(n, channels, False).value for n in ("mean", "variance")]
            operands = (x, gain, offset, *averages)
            (y,) = tape.multi_op("FusedBatchNormV3", operands, (x.spec,), {"is_training": False})
            return y
        empty = [tape.constant((0,), DType.FLOAT32) for _ in range(2)]
        outputs = (x.spec, spec, spec, spec, spec, tape.spec((0,)))
        y, *statistics = tape.multi_op(
            "FusedBatchNormV3", (x, gain, offset, *empty), outputs, {"is_training": True}
        )
        with tape.phase(Phase.UPDATE):
            for name, value in zip(("moving_mean", "moving_variance"), statistics, strict=False):
                moving = tape.variable(name, channels, trained=False)
                change = scale(tape, tape.op("Sub", (moving.value, value)))
                tape.multi_op(
                    "AssignSubVariableOp", (moving.handle, change), (), group=moving.group
                )
                tape.side_updates.append(tape.op_count - 1)
        return y


def conv_bn(
    tape: Tape, name: str, x: TapeValue, filters: int, kernel: tuple[int, int] = (3, 3),
    stride: int = 1, kind: str | None = "relu",
) -> TapeValue:  # fmt: skip
    """Convolution, batch normalisation, activation."""
    with tape.scope(name):
        x = batch_norm(tape, convolution(tape, x, filters, kernel, stride))
        return activation(tape, x, kind) if kind else x


def pool(tape: Tape, x: TapeValue, op_type: str, size: int, stride: int) -> TapeValue:
    """`MaxPool` or `AvgPool` over square windows."""
    batch, height, width, channels = x.shape
    shape = (batch, ceil(height / stride), ceil(width / stride), channels)
    return tape.op(op_type, (x,), shape, {"ksize": (1, size, size, 1)})


def images_and_labels(tape: Tape, batch: int, size: int) -> tuple[TapeValue, TapeValue]:
    """Placeholders of an image model."""
    return tape.placeholder((batch, size, size, 3)), tape.placeholder((batch,), DType.INT32)


def classification(tape: Tape, x: TapeValue, labels: TapeValue, classes: int) -> TapeValue:
    """Global average pooling, a linear classifier, the loss."""
    with tape.scope("logits"):
        return token_loss(tape, dense(tape, "dense", mean(tape, x, (1, 2)), classes), labels)
