"""Selective state-space models: a gated causal convolution and a scan over chunks of time."""

from random import Random

from graphs.families.layers import (
    activation,
    cut_slice,
    dense,
    layer_norm,
    reshape,
    scale,
    split,
    transpose,
)
from graphs.families.tape import Tape
from graphs.families.transformer import Sizes, embed, language_loss, random_sizes
from graphs.families.values import TapeValue
from graphs.kinds import DType


def mamba(tape: Tape, rng: Random) -> TapeValue:
    """As many layers as the target allows, each with a scan of 4-32 chunks."""
    sizes = random_sizes(rng)
    state = rng.choice((16, 32, 64))
    small = tape.target_ops < 1500
    chunks = rng.choice((4, 8) if small else (4, 8, 16, 32))
    vocabulary = rng.choice((8_000, 16_000, 32_000))
    x = embed(tape, sizes, vocabulary)
    for layer in tape.blocks():
        with tape.scope(f"layer_{layer}"):
            y = _mixer(tape, layer_norm(tape, "norm", x, False), sizes, state, chunks)
            x = tape.op("AddV2", (x, y))
    x = layer_norm(tape, "norm", x, False)
    return language_loss(tape, x, sizes, vocabulary)


def _mixer(tape: Tape, x: TapeValue, sizes: Sizes, state: int, chunks: int) -> TapeValue:
    batch, steps, inner = sizes.batch, sizes.steps, 2 * sizes.width
    value, gate = split(tape, dense(tape, "in", x, 2 * inner, False), 2)
    with tape.scope("conv"):
        rows = reshape(tape, value, (batch, 1, steps, inner))
        kernel = tape.weight("depthwise", (1, 4, inner, 1))
        rows = tape.op("DepthwiseConv2dNative", (rows, kernel), rows.shape)
        rows = activation(tape, rows, "silu")
        value = reshape(tape, rows, (batch * steps, inner))
    enter = reshape(tape, dense(tape, "enter", value, state, False), (batch, steps, state))
    leave = reshape(tape, dense(tape, "leave", value, state, False), (batch, steps, state))
    rank = max(sizes.width // 16, 8)
    speed = dense(tape, "speed", dense(tape, "rank", value, rank, False), inner)
    speed = tape.op("Softplus", (speed,))
    driven = reshape(tape, tape.op("Mul", (speed, value)), (batch, steps, inner))
    decay = tape.op("Exp", (scale(tape, speed),))
    decay = reshape(tape, decay, (batch, steps, inner))
    with tape.scope("scan"):
        scanned = _scan(tape, driven, decay, enter, leave, chunks)
    y = reshape(tape, scanned, (batch * steps, inner))
    y = tape.op("Mul", (y, activation(tape, gate, "silu")))
    return dense(tape, "out", y, sizes.width, False)


def _scan(
    tape: Tape, driven: TapeValue, decay: TapeValue, enter: TapeValue, leave: TapeValue, chunks: int
) -> TapeValue:
    """Within a chunk all steps at once, by products; between chunks the state `[state, inner]`."""
    batch, steps, inner = driven.shape
    size, width = steps // chunks, enter.shape[-1]
    memory = tape.constant((batch, width, inner), DType.FLOAT32)
    outputs: list[TapeValue] = []
    whole = (driven, decay, enter, leave)
    for x, keep, write, read in zip(*(_chunk(tape, y, chunks) for y in whole), strict=True):
        scores = tape.op("BatchMatMulV2", (read, write), (batch, size, size), {"adj_y": True})
        scores = tape.op("Mul", (scores, tape.constant((size, size), DType.FLOAT32)))
        inside = tape.op("BatchMatMulV2", (scores, x), x.shape)
        before = tape.op("BatchMatMulV2", (read, memory), x.shape)
        outputs.append(tape.op("AddV2", (inside, tape.op("Mul", (before, keep)))))
        if len(outputs) == chunks:
            break
        last = cut_slice(tape, keep, (batch, 1, inner))
        added = tape.op("BatchMatMulV2", (transpose(tape, write, (0, 2, 1)), x), memory.shape)
        kept = tape.op("Mul", (memory, last), memory.shape)
        memory = tape.op("AddV2", (kept, added))
    return tape.op("ConcatV2", (*outputs, tape.constant()), driven.shape)


def _chunk(tape: Tape, x: TapeValue, chunks: int) -> tuple[TapeValue, ...]:
    batch, steps, width = x.shape
    spec = tape.spec((batch, steps // chunks, width))
    return tape.multi_op("Split", (tape.constant(), x), [spec] * chunks)
