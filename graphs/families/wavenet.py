"""Stacks of dilated causal convolutions with gates, residuals and skips that are added up."""

from random import Random

from graphs.families.layers import add_up, token_loss
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType


def wavenet(tape: Tape, rng: Random) -> TapeValue:
    """As many layers as the target allows."""
    batch = rng.choice((1, 2, 4, 8))
    steps = rng.choice((2048, 4096, 8192, 16_384))
    residual = rng.choice((32, 64, 128))
    skip = rng.choice((128, 256, 512))
    levels = 256
    samples = tape.placeholder((batch, steps), DType.INT32)
    labels = tape.placeholder((batch, steps), DType.INT32)
    x = tape.op("OneHot", (samples,), (batch, 1, steps, levels))
    with tape.scope("input"):
        x = _causal(tape, "conv", x, residual)
    skips: list[TapeValue] = []
    gated = x
    for layer in tape.blocks(0.97):
        if layer:  # the last layer has a skip only: nobody reads its residual
            with tape.scope(f"layer_{layer - 1}"):
                x = tape.op("AddV2", (x, _pointwise(tape, "residual", gated, residual)))
        with tape.scope(f"layer_{layer}"):
            gate = tape.op("Sigmoid", (_causal(tape, "gate", x, residual),))
            gated = tape.op("Mul", (tape.op("Tanh", (_causal(tape, "filter", x, residual),)), gate))
            skips.append(_pointwise(tape, "skip", gated, skip))
    with tape.scope("output"):
        y = tape.op("Relu", (add_up(tape, skips),))
        y = tape.op("Relu", (_pointwise(tape, "first", y, skip),))
        y = _pointwise(tape, "second", y, levels)
        return token_loss(tape, tape.op("Squeeze", (y,), (batch, steps, levels)), labels)


def _causal(tape: Tape, name: str, x: TapeValue, channels: int) -> TapeValue:
    """A convolution of width two over `[batch, 1, steps, channels]`, padded on the left."""
    batch, _, steps, inputs = x.shape
    with tape.scope(name):
        weight = tape.weight("filters", (1, 2, inputs, channels))
        padded = tape.op("Pad", (x, tape.constant((4, 2))), (batch, 1, steps + 1, inputs))
        return _add_bias(tape, tape.op("Conv2D", (padded, weight), (batch, 1, steps, channels)))


def _pointwise(tape: Tape, name: str, x: TapeValue, channels: int) -> TapeValue:
    with tape.scope(name):
        weight = tape.weight("filters", (1, 1, x.shape[-1], channels))
        return _add_bias(tape, tape.op("Conv2D", (x, weight), (*x.shape[:-1], channels)))


def _add_bias(tape: Tape, x: TapeValue) -> TapeValue:
    return tape.op("BiasAdd", (x, tape.weight("bias", x.shape[-1:])), x.shape)
