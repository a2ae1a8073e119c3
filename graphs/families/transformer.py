"""Transformers: encoders, decoders, both, with a memory, with gated feed-forward layers."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from graphs.families.layers import (
    cut_slice,
    dense,
    dropout,
    embedding,
    layer_norm,
    reshape,
    scale,
    token_loss,
    transpose,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType, Phase

FeedForward = Callable[[Tape, TapeValue], TapeValue]


@dataclass(frozen=True)
class Sizes:
    """What the layers of one model share."""

    batch: int
    steps: int
    width: int
    heads: int
    inner: int
    kind: str
    """Activation of the feed-forward layers."""
    gated: bool
    """Feed-forward layers multiply with a gate."""
    centred: bool
    """Layer normalisation; otherwise by the root mean square."""
    before: bool
    """Normalisation comes before each part rather than after the sum."""
    bias: bool
    memory: int = 0
    """Tokens of the previous segment that attention sees as well."""


def random_sizes(rng: Random, memory: bool = False) -> Sizes:
    """Sizes between those of small character models and of medium language models."""
    width = rng.choice((256, 384, 512, 768, 1024))
    steps = rng.choice((64, 128, 256, 512))
    modern = rng.random() < 0.35
    return Sizes(
        batch=rng.choice((4, 8, 16, 32)),
        steps=steps,
        width=width,
        heads=width // 64,
        inner=rng.choice((3, 4, 4)) * width,
        kind="silu" if modern else rng.choice(("relu", "gelu")),
        gated=modern,
        centred=not modern,
        before=modern or rng.random() < 0.5,
        bias=not modern,
        memory=rng.choice((64, 128, 256, 512)) if memory else 0,
    )


def transformer(tape: Tape, rng: Random) -> TapeValue:
    """As many layers as the target allows."""
    form = rng.choice(("encoder", "decoder", "both", "memory"))
    sizes = random_sizes(rng, memory=form == "memory")
    vocabulary = rng.choice((204, 8_000, 16_000, 32_000))
    encoded = None
    if form == "both":
        with tape.scope("encoder"):
            encoded = embed(tape, sizes, vocabulary)
            for layer in tape.blocks(0.4):
                with tape.scope(f"layer_{layer}"):
                    encoded = transformer_layer(tape, encoded, sizes)
    with tape.scope("decoder" if form == "both" else "model"):
        x = embed(tape, sizes, vocabulary)
        for layer in tape.blocks():
            with tape.scope(f"layer_{layer}"):
                x = transformer_layer(tape, x, sizes, encoded)
    return language_loss(tape, x, sizes, vocabulary)


def embed(tape: Tape, sizes: Sizes, vocabulary: int) -> TapeValue:
    """Token embeddings, `[batch * steps, width]`."""
    tokens = tape.placeholder((sizes.batch * sizes.steps,), DType.INT32)
    x = embedding(tape, "embedding", tokens, vocabulary, sizes.width)
    return dropout(tape, scale(tape, x))


def language_loss(tape: Tape, x: TapeValue, sizes: Sizes, vocabulary: int) -> TapeValue:
    """Logits over the vocabulary and their loss."""
    with tape.scope("softmax"):
        labels = tape.placeholder(x.shape[:1], DType.INT32)
        return token_loss(tape, dense(tape, "dense", x, vocabulary, sizes.bias), labels)


def transformer_layer(
    tape: Tape, x: TapeValue, sizes: Sizes, encoded: TapeValue | None = None,
    feed_forward: FeedForward | None = None,
) -> TapeValue:  # fmt: skip
    """Attention, attention to the encoder where there is one, feed-forward."""
    seen, steps = (None, sizes.steps)
    if sizes.memory:
        seen, steps = _with_memory(tape, x, sizes), sizes.memory + steps
    x = _part(tape, "attention", x, sizes,
              lambda y: _attention(tape, y, seen or y, steps, sizes))  # fmt: skip
    if encoded is not None:
        x = _part(tape, "cross", x, sizes,
                  lambda y: _attention(tape, y, encoded, sizes.steps, sizes))  # fmt: skip
    forward = feed_forward or (lambda tape, y: _feed_forward(tape, y, sizes))
    return _part(tape, "feed_forward", x, sizes, lambda y: forward(tape, y))


def _with_memory(tape: Tape, x: TapeValue, sizes: Sizes) -> TapeValue:
    """The kept tokens, then the segment's; a training step keeps its last tokens for the next."""
    shape = (sizes.batch * sizes.memory, sizes.width)
    memory = tape.variable("memory", shape, trained=False)
    rows = (sizes.batch * (sizes.memory + sizes.steps), sizes.width)
    seen = tape.op("ConcatV2", (memory.value, x, tape.constant()), rows)
    if tape.training:
        with tape.phase(Phase.UPDATE):
            kept = cut_slice(tape, seen, shape)
            tape.multi_op("AssignVariableOp", (memory.handle, kept), (), group=memory.group)
            tape.side_updates.append(tape.op_count - 1)
    return seen


def _part(
    tape: Tape, name: str, x: TapeValue, sizes: Sizes, function: Callable[[TapeValue], TapeValue]
) -> TapeValue:
    """A residual part with its normalisation."""
    with tape.scope(name):
        if sizes.before:
            y = function(layer_norm(tape, "norm", x, sizes.centred))
            return tape.op("AddV2", (x, dropout(tape, y)))
        y = tape.op("AddV2", (x, dropout(tape, function(x))))
        return layer_norm(tape, "norm", y, sizes.centred)


def _heads(tape: Tape, name: str, x: TapeValue, steps: int, sizes: Sizes) -> TapeValue:
    """`[batch * steps, width]` projected and seen as `[batch, heads, steps, head]`."""
    y = dense(tape, name, x, sizes.width, sizes.bias)
    y = reshape(tape, y, (sizes.batch, steps, sizes.heads, sizes.width // sizes.heads))
    return transpose(tape, y, (0, 2, 1, 3))


def _attention(tape: Tape, x: TapeValue, seen: TapeValue, steps: int, sizes: Sizes) -> TapeValue:
    query = _heads(tape, "query", x, sizes.steps, sizes)
    key = _heads(tape, "key", seen, steps, sizes)
    value = _heads(tape, "value", seen, steps, sizes)
    shape = (sizes.batch, sizes.heads, sizes.steps, steps)
    scores = scale(tape, tape.op("BatchMatMulV2", (query, key), shape, {"adj_y": True}))
    mask = tape.constant((sizes.steps, steps), DType.FLOAT32)
    weights = tape.op("Softmax", (tape.op("AddV2", (scores, mask)),))
    mixed = tape.op("BatchMatMulV2", (dropout(tape, weights), value), query.shape)
    mixed = transpose(tape, mixed, (0, 2, 1, 3))
    mixed = reshape(tape, mixed, (sizes.batch * sizes.steps, sizes.width))
    return dense(tape, "output", mixed, sizes.width, sizes.bias)


def _feed_forward(tape: Tape, x: TapeValue, sizes: Sizes) -> TapeValue:
    inner = dense(tape, "expand", x, sizes.inner, sizes.bias, sizes.kind)
    if sizes.gated:
        inner = tape.op("Mul", (inner, dense(tape, "gate", x, sizes.inner, False)))
    return dense(tape, "contract", inner, sizes.width, sizes.bias)
