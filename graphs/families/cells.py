"""Image models that stack searched cells: the cells are random, as an architecture search draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from graphs.families.layers import (
    batch_norm,
    classification,
    concatenate,
    conv_bn,
    convolution,
    images_and_labels,
    pool,
)
from graphs.families.tape import Tape
from graphs.families.values import TapeValue

_OPERATIONS = ("sep3", "sep5", "sep7", "avg3", "max3", "skip", "skip", "conv1", "conv3", "conv7")


@dataclass(frozen=True)
class _Cell:
    """Nodes of (op, state, op, state), and the states that are joined into the result."""

    nodes: Sequence[tuple[str, int, str, int]]
    result: Sequence[int]


def cells(tape: Tape, rng: Random) -> TapeValue:
    """A stem, then normal cells in three stacks with reduction cells between them."""
    batch = rng.choice((4, 8, 16, 32))
    images, labels = images_and_labels(tape, batch, rng.choice((96, 128, 192, 224)))
    filters = rng.choice((24, 32, 44, 64, 96))
    normal, reduction = _random_cell(rng), _random_cell(rng)
    ends = (0.33, 0.67)
    with tape.scope("stem"):
        x = conv_bn(tape, "conv", images, filters, (3, 3), 2, None)
    before, stack = x, 0
    for index in tape.blocks():
        due = min(sum(tape.progress > end for end in ends), stack + 1)
        with tape.scope(f"cell_{index}"):
            if due > stack:
                stack, filters = due, 2 * filters
                x, before = _apply(tape, reduction, x, before, filters, 2), x
            else:
                x, before = _apply(tape, normal, x, before, filters, 1), x
    return classification(tape, x, labels, 1000)


def _random_cell(rng: Random) -> _Cell:
    nodes = []
    for index in range(rng.randint(3, 7)):
        left, right = ((rng.choice(_OPERATIONS), rng.randrange(index + 2)) for _ in range(2))
        nodes.append((*left, *right))
    used = {state for _, a, _, b in nodes for state in (a, b)}
    return _Cell(nodes, [i for i in range(2, len(nodes) + 2) if i not in used])


def _apply(
    tape: Tape, cell: _Cell, x: TapeValue, before: TapeValue, filters: int, stride: int
) -> TapeValue:
    with tape.scope("begin"):
        shrink = before.shape[1] // x.shape[1]
        states = [
            conv_bn(tape, "current", x, filters, (1, 1)),
            conv_bn(tape, "previous", before, filters, (1, 1), max(shrink, 1)),
        ]
    for index, (left_op, left, right_op, right) in enumerate(cell.nodes):
        results = []
        for side, op, state in (("left", left_op, left), ("right", right_op, right)):
            with tape.scope(f"node_{index}/{side}"):
                step = stride if state < 2 else 1
                results.append(_operation(tape, op, states[state], filters, step))
        states.append(tape.op("AddV2", results))
    return concatenate(tape, [states[index] for index in cell.result])


def _operation(tape: Tape, op: str, x: TapeValue, filters: int, stride: int) -> TapeValue:
    size = int(op[-1]) if op != "skip" else 1
    if op == "skip":
        return x if stride == 1 else conv_bn(tape, "halve", x, filters, (1, 1), stride)
    if op == "avg3":
        return pool(tape, x, "AvgPool", size, stride)
    if op == "max3":
        return pool(tape, x, "MaxPool", size, stride)
    if op == "conv7":
        x = conv_bn(tape, "row", x, filters, (1, 7), stride)
        return conv_bn(tape, "column", x, filters, (7, 1))
    if op.startswith("conv"):
        return conv_bn(tape, "conv", x, filters, (size, size), stride)
    for index in range(2):
        with tape.scope(f"separable_{index}"):
            y = tape.op("Relu", (x,))
            step = 1 if index else stride
            y = convolution(tape, y, filters, (size, size), step, depthwise=True)
            x = batch_norm(tape, convolution(tape, y, filters, (1, 1)))
    return x
