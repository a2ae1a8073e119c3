"""Translation with unrolled recurrent encoder and decoder, and attention at each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from graphs.families.layers import (
    add_up,
    concatenate,
    embedding,
    reshape,
    token_loss,
    total,
    unstack,
)
from graphs.families.recurrent import (
    LSTM_INFERENCE_OPS,
    LSTM_OPS,
    cell,
    step,
    unroll,
    zero_state,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType


@dataclass(frozen=True)
class _Sizes:
    layers: int
    hidden: int
    batch: int
    steps: int
    vocabulary: int
    bidirectional: bool
    additive: bool
    """Additive attention; otherwise scaled products."""


def gnmt(tape: Tape, rng: Random) -> TapeValue:
    """1-8 layers on both sides over 3-60 steps."""
    per_cell = LSTM_OPS if tape.training else LSTM_INFERENCE_OPS
    attention = 75 if tape.training else 14
    wanted = rng.randint(1, 8)
    layers = max(1, min(wanted, int((tape.target_ops / 4 - attention) / (2 * per_cell))))
    bidirectional = rng.random() < 0.7
    cells = 2 * layers + bidirectional
    sizes = _Sizes(
        layers=layers,
        hidden=rng.choice((256, 512, 1024)),
        batch=rng.choice((32, 64, 128)),
        steps=min(max(2, round(tape.target_ops / (cells * per_cell + attention))), 120),
        vocabulary=rng.choice((8_000, 16_000, 32_000)),
        bidirectional=bidirectional,
        additive=rng.random() < 0.6,
    )
    tokens = [tape.placeholder((sizes.batch, sizes.steps), DType.INT32) for _ in range(3)]
    with tape.scope("encoder"):
        steps = unstack(
            tape, embedding(tape, "embedding", tokens[0], sizes.vocabulary, sizes.hidden)
        )
        encoded = _encode(tape, steps, sizes)
        shape = (sizes.batch, sizes.steps, encoded[0].shape[-1])
        memory = tape.op("Pack", encoded, shape)
    with tape.scope("decoder"):
        steps = unstack(
            tape, embedding(tape, "embedding", tokens[1], sizes.vocabulary, sizes.hidden)
        )
        outputs = _decode(tape, steps, memory, sizes)
    with tape.scope("softmax"):
        kernel = tape.weight("kernel", (sizes.hidden, sizes.vocabulary))
        losses = []
        for output, target in zip(outputs, unstack(tape, tokens[2]), strict=True):
            logits = tape.op("MatMul", (output, kernel), (sizes.batch, sizes.vocabulary))
            losses.append(token_loss(tape, logits, target))
        return add_up(tape, losses)


def _encode(tape: Tape, steps: Sequence[TapeValue], sizes: _Sizes) -> list[TapeValue]:
    outputs = unroll(tape, "layer_0", steps, sizes.hidden)
    if sizes.bidirectional:
        back = unroll(tape, "layer_0_back", steps, sizes.hidden, reverse=True)
        outputs = [concatenate(tape, pair) for pair in zip(outputs, back, strict=True)]
    for layer in range(1, sizes.layers):
        below = outputs
        outputs = unroll(tape, f"layer_{layer}", below, sizes.hidden)
        if layer > 1:
            outputs = [tape.op("AddV2", pair) for pair in zip(outputs, below, strict=True)]
    return outputs


def _decode(
    tape: Tape, steps: Sequence[TapeValue], memory: TapeValue, sizes: _Sizes
) -> list[TapeValue]:
    """Decoder outputs; the attention that follows the first layer feeds every layer."""
    batch, hidden, features = sizes.batch, sizes.hidden, memory.shape[-1]
    with tape.scope("attention"):
        flat = reshape(tape, memory, (batch * sizes.steps, features))
        keys = tape.op("MatMul", (flat, tape.weight("keys", (features, hidden))),
                       (batch * sizes.steps, hidden))  # fmt: skip
        keys = reshape(tape, keys, (batch, sizes.steps, hidden))
        kernel = tape.weight("query", (hidden, hidden))
        score = tape.weight("score", (hidden,)) if sizes.additive else None
    cells = []
    for layer in range(sizes.layers):
        with tape.scope(f"layer_{layer}"):
            cells.append(cell(tape, hidden + features, hidden))
    states = [zero_state(tape, batch, hidden) for _ in cells]
    context = tape.constant((batch, features), DType.FLOAT32)
    outputs = []
    for value in steps:
        with tape.scope("layer_0"):
            states[0] = step(tape, cells[0], [value, context], states[0])
        with tape.scope("attention"):
            context = _context(tape, states[0][0], keys, memory, kernel, score)
        output = states[0][0]
        for layer in range(1, sizes.layers):
            with tape.scope(f"layer_{layer}"):
                states[layer] = step(tape, cells[layer], [output, context], states[layer])
                above = states[layer][0]
                output = tape.op("AddV2", (above, output)) if layer > 1 else above
        outputs.append(output)
    return outputs


def _context(
    tape: Tape,
    query: TapeValue,
    keys: TapeValue,
    memory: TapeValue,
    kernel: TapeValue,
    score: TapeValue | None,
) -> TapeValue:
    """The mean of the memory, weighted by how well it fits the query."""
    batch, steps, hidden = keys.shape
    projected = tape.op("MatMul", (query, kernel), (batch, hidden))
    column = tape.op("ExpandDims", (projected, tape.constant()), (batch, 1, hidden))
    if score is None:
        scores = tape.op("BatchMatMulV2", (column, keys), (batch, 1, steps), {"adj_y": True})
        weights = tape.op("Softmax", (scores,))
    else:
        fitted = tape.op("Tanh", (tape.op("AddV2", (keys, column)),))
        scores = total(tape, tape.op("Mul", (fitted, score)), (2,))
        weights = tape.op("Softmax", (scores,))
        weights = tape.op("ExpandDims", (weights, tape.constant()), (batch, 1, steps))
    mixed = tape.op("BatchMatMulV2", (weights, memory), (batch, 1, memory.shape[-1]))
    return tape.op("Squeeze", (mixed,), (batch, memory.shape[-1]))
