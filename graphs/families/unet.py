"""Encoder-decoders over images with skips at every resolution, as in diffusion models."""

from random import Random

from graphs.families.layers import (
    concatenate,
    conv_bn,
    convolution,
    mean,
    reshape,
    scale,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue


def unet(tape: Tape, rng: Random) -> TapeValue:
    """Down, an attention in the middle, up again with the skips."""
    batch = rng.choice((2, 4, 8, 16))
    size = rng.choice((64, 128, 256))
    channels = rng.choice((32, 48, 64))
    levels = rng.choice((3, 4, 5))
    kind = rng.choice(("relu", "silu"))
    attention = rng.random() < 0.7
    x = convolution(tape, tape.placeholder((batch, size, size, 3)), channels)
    skips: list[list[TapeValue]] = [[]]
    for block in tape.blocks(0.42):
        # A level ends where its share of the way down does.
        if len(skips) < levels and tape.progress > 0.42 * len(skips) / levels:
            with tape.scope(f"down_{len(skips)}"):
                x = convolution(tape, x, channels << len(skips), (3, 3), 2)
            skips.append([])
        with tape.scope(f"down_{len(skips) - 1}/block_{block}"):
            x = _residual(tape, x, channels << len(skips) - 1, kind)
            skips[-1].append(x)
    with tape.scope("middle"):
        x = _residual(tape, x, x.shape[-1], kind)
        if attention and x.shape[1] <= 32:
            x = _attention(tape, x)
    for level in range(len(skips) - 1, -1, -1):
        with tape.scope(f"up_{level}"):
            for block, skip in enumerate(reversed(skips[level])):
                with tape.scope(f"block_{block}"):
                    x = _residual(tape, concatenate(tape, [x, skip]), skip.shape[-1], kind)
            if level:
                shape = (batch, 2 * x.shape[1], 2 * x.shape[2], x.shape[3])
                x = tape.op("ResizeNearestNeighbor", (x, tape.constant((2,))), shape)
                x = convolution(tape, x, channels << level - 1)
    with tape.scope("output"):
        y = convolution(tape, x, 3)
        if not tape.training:
            return y
        noise = tape.placeholder(y.shape)
        return mean(tape, tape.op("SquaredDifference", (y, noise)), (0, 1, 2, 3))


def _residual(tape: Tape, x: TapeValue, channels: int, kind: str) -> TapeValue:
    y = conv_bn(tape, "first", x, channels, (3, 3), 1, kind)
    y = conv_bn(tape, "second", y, channels, (3, 3), 1, kind)
    if x.shape[-1] != channels:
        with tape.scope("shortcut"):
            x = convolution(tape, x, channels, (1, 1))
    return tape.op("AddV2", (x, y))


def _attention(tape: Tape, x: TapeValue) -> TapeValue:
    """Self-attention over the pixels."""
    batch, height, width, channels = x.shape
    parts = [
        reshape(tape, convolution(tape, x, channels, (1, 1)), (batch, height * width, channels))
        for _ in range(3)
    ]
    query, key, value = parts
    shape = (batch, height * width, height * width)
    scores = tape.op("BatchMatMulV2", (query, key), shape, {"adj_y": True})
    weights = tape.op("Softmax", (scale(tape, scores),))
    mixed = tape.op("BatchMatMulV2", (weights, value), value.shape)
    return tape.op("AddV2", (x, reshape(tape, mixed, x.shape)))
