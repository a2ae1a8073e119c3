"""Convolutional classifiers: residual (basic or bottleneck), plain, inverted bottlenecks."""

from random import Random

from graphs.families.layers import (
    activation,
    batch_norm,
    classification,
    conv_bn,
    convolution,
    images_and_labels,
    pool,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue

_STAGES = 4


def convnet(tape: Tape, rng: Random) -> TapeValue:
    """Four stages of as many blocks as the target allows."""
    style = rng.choice(("bottleneck", "bottleneck", "basic", "plain", "inverted"))
    batch = rng.choice((8, 16, 32, 64))
    images, labels = images_and_labels(tape, batch, rng.choice((128, 160, 192, 224, 256)))
    base = rng.choice((32, 48, 64, 96))
    # Where a stage ends, as a share of the target; deeper stages have more blocks, as in ResNets.
    ends = sorted(rng.uniform(0.1, 0.9) for _ in range(_STAGES - 1))
    with tape.scope("stem"):
        x = pool(tape, conv_bn(tape, "conv", images, base, (7, 7), 2), "MaxPool", 3, 2)
    stage = 0
    for block in tape.blocks():
        due = min(sum(tape.progress > end for end in ends), stage + 1)
        stride, stage = (2, due) if due > stage and x.shape[1] > 4 else (1, stage)
        with tape.scope(f"stage_{stage}/block_{block}"):
            x = _block(tape, x, base << stage, stride, style)
    return classification(tape, x, labels, rng.choice((100, 1000, 1000, 10_000)))


def _block(tape: Tape, x: TapeValue, filters: int, stride: int, style: str) -> TapeValue:
    if style == "plain":
        return conv_bn(tape, "conv", x, filters, (3, 3), stride)
    if style == "inverted":
        return _invert(tape, x, filters // 2, stride)
    width = 4 * filters if style == "bottleneck" else filters
    shortcut = x
    if x.shape[-1] != width or stride > 1:
        shortcut = conv_bn(tape, "shortcut", x, width, (1, 1), stride, None)
    if style == "bottleneck":
        y = conv_bn(tape, "reduce", x, filters, (1, 1))
        y = conv_bn(tape, "conv", y, filters, (3, 3), stride)
        y = conv_bn(tape, "expand", y, width, (1, 1), 1, None)
    else:
        y = conv_bn(tape, "first", x, filters, (3, 3), stride)
        y = conv_bn(tape, "second", y, filters, (3, 3), 1, None)
    return tape.op("Relu", (tape.op("AddV2", (y, shortcut)),))


def _invert(tape: Tape, x: TapeValue, filters: int, stride: int) -> TapeValue:
    """Expanded, filtered channel by channel, contracted."""
    wide = conv_bn(tape, "expand", x, 4 * x.shape[-1], (1, 1), 1, "relu6")
    with tape.scope("depthwise"):
        y = convolution(tape, wide, wide.shape[-1], (3, 3), stride, depthwise=True)
        y = activation(tape, batch_norm(tape, y), "relu6")
    y = conv_bn(tape, "contract", y, filters, (1, 1), 1, None)
    return tape.op("AddV2", (y, x)) if y.shape == x.shape else y
