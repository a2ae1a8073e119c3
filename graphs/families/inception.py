"""Image models of blocks with parallel branches of unlike depth, joined in channels."""

from collections.abc import Sequence
from random import Random

from graphs.families.layers import (
    classification,
    concatenate,
    conv_bn,
    images_and_labels,
    pool,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue

Branch = Sequence[tuple[int, int]]
"""Kernels of the convolutions in a row; none: a pooling and one convolution."""

_ROWS: Sequence[Branch] = (
    ((1, 1),),
    ((1, 1), (3, 3)),
    ((1, 1), (5, 5)),
    ((1, 1), (3, 3), (3, 3)),
    ((1, 1), (1, 7), (7, 1)),
    ((1, 1), (7, 1), (1, 7), (7, 1), (1, 7)),
    ((1, 1), (1, 3), (3, 1)),
    (),
)


def inception(tape: Tape, rng: Random) -> TapeValue:
    """A stem, then blocks of 2-6 branches at three resolutions."""
    batch = rng.choice((8, 16, 32, 64))
    images, labels = images_and_labels(tape, batch, rng.choice((192, 224, 256, 299)))
    base = rng.choice((32, 48, 64))
    with tape.scope("stem"):
        x = conv_bn(tape, "conv_0", images, base // 2, (3, 3), 2)
        x = conv_bn(tape, "conv_1", x, base, (3, 3))
        x = pool(tape, x, "MaxPool", 3, 2)
        x = pool(tape, conv_bn(tape, "conv_2", x, 3 * base, (3, 3)), "MaxPool", 3, 2)
    # Blocks of one stage share their form, as in the published models.
    stages = [[rng.choice(_ROWS) for _ in range(rng.randint(2, 6))] for _ in range(3)]
    ends = sorted(rng.uniform(0.15, 0.9) for _ in range(2))
    stage = 0
    for block in tape.blocks():
        due = min(sum(tape.progress > end for end in ends), stage + 1)
        with tape.scope(f"mixed_{block}"):
            if due > stage:
                stage = due
                x = _reduction(tape, x, base << stage)
            else:
                x = _block(tape, x, stages[stage], base << stage)
    return classification(tape, x, labels, 1000)


def _block(tape: Tape, x: TapeValue, branches: Sequence[Branch], filters: int) -> TapeValue:
    outputs = []
    for index, kernels in enumerate(branches):
        with tape.scope(f"branch_{index}"):
            y = x
            if not kernels:
                y = conv_bn(tape, "project", pool(tape, y, "AvgPool", 3, 1), filters, (1, 1))
            for depth, kernel in enumerate(kernels):
                y = conv_bn(tape, f"conv_{depth}", y, filters, kernel)
            outputs.append(y)
    return concatenate(tape, outputs)


def _reduction(tape: Tape, x: TapeValue, filters: int) -> TapeValue:
    left = conv_bn(tape, "branch_0/conv_0", x, filters, (1, 1))
    left = conv_bn(tape, "branch_0/conv_1", left, 2 * filters, (3, 3), 2)
    right = conv_bn(tape, "branch_1/conv_0", x, filters, (3, 3), 2)
    return concatenate(tape, [left, right, pool(tape, x, "MaxPool", 3, 2)])
