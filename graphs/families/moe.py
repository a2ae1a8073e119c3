"""Transformers whose feed-forward layers are mixtures of experts."""

from dataclasses import replace
from random import Random

from graphs.families.layers import add_up, dense
from graphs.families.tape import Tape
from graphs.families.transformer import (
    embed,
    language_loss,
    random_sizes,
    transformer_layer,
)
from graphs.families.values import TapeValue
from graphs.kinds import DType


def moe(tape: Tape, rng: Random) -> TapeValue:
    """As many layers as the target allows; every layer or every second has 2-16 experts."""
    sizes = random_sizes(rng)
    sizes = replace(sizes, width=min(sizes.width, 512), inner=4 * min(sizes.width, 512), heads=8)
    vocabulary = rng.choice((8_000, 32_000))
    experts = rng.choice((2, 4) if tape.target_ops < 1500 else (4, 8, 16))
    chosen = rng.choice((1, 2))
    every = rng.choice((1, 2))

    def mixture(tape: Tape, x: TapeValue) -> TapeValue:
        tokens = x.shape[0]
        with tape.scope("router"):
            weights = tape.op("Softmax", (dense(tape, "dense", x, experts, False),))
            picks = tape.spec((tokens, chosen), DType.INT32)
            with_gates = tape.spec((tokens, chosen))
            _, numbers = tape.multi_op("TopKV2", (weights, tape.constant()), (with_gates, picks))
        share = max(tokens * chosen // experts, 1)
        outputs = []
        for expert in range(experts):
            with tape.scope(f"expert_{expert}"):
                rows = tape.op("Where", (numbers,), (share,), dtype=DType.INT32)
                taken = tape.op("GatherNd", (x, rows), (share, sizes.width))
                gate = tape.op("GatherNd", (weights, rows), (share, 1))
                y = dense(tape, "expand", taken, sizes.inner, sizes.bias, sizes.kind)
                y = dense(tape, "contract", y, sizes.width, sizes.bias)
                y = tape.op("Mul", (y, gate))
                places = (y, rows, tape.constant())
                outputs.append(tape.op("UnsortedSegmentSum", places, x.shape))
        return add_up(tape, outputs)

    x = embed(tape, sizes, vocabulary)
    for layer in tape.blocks():
        with tape.scope(f"layer_{layer}"):
            x = transformer_layer(tape, x, sizes, feed_forward=None if layer % every else mixture)
    return language_loss(tape, x, sizes, vocabulary)
