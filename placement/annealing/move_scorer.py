"""A small network that scores a move from its features, compiled: some microseconds a move."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from placement.annealing.move_features import MOVE_COLUMNS
from simulator.compiled import inlined
from simulator.kernel_checks import check_record


class MoveScorer(NamedTuple):
    """Weights of two hidden layers with rectifiers, and room to compute in."""

    scale: Float32[np.ndarray, " columns"]
    shift: Float32[np.ndarray, " columns"]
    first: Float32[np.ndarray, "columns width"]
    first_bias: Float32[np.ndarray, " width"]
    second: Float32[np.ndarray, "width width2"]
    second_bias: Float32[np.ndarray, " width2"]
    last: Float32[np.ndarray, " width2"]
    last_bias: Float32[np.ndarray, " 1"]
    hidden: Float32[np.ndarray, " width"]
    hidden2: Float32[np.ndarray, " width2"]


def blank_scorer(width: int = 1) -> MoveScorer:
    """Scores every move alike."""
    columns = len(MOVE_COLUMNS)
    zeros = [
        np.zeros(shape, np.float32)
        for shape in ((columns, width), width, (width, width), width, width, 1, width, width)
    ]
    return MoveScorer(np.ones(columns, np.float32), np.zeros(columns, np.float32), *zeros)


def check_scorer(scorer: MoveScorer, like: MoveScorer | None = None) -> None:
    """Raise `KernelInputError` unless all weights fit each other and the columns of moves.

    Args:
        scorer: the weights.
        like: a scorer whose widths they must have.
    """
    widths = {} if like is None else {"width": len(like.hidden), "width2": len(like.hidden2)}
    check_record(scorer, columns=len(MOVE_COLUMNS), **widths)


@inlined
def score_move(scorer: MoveScorer, row: Float32[np.ndarray, " columns"]) -> float:
    """Logarithm of the odds that the move improves the plan."""
    hidden, hidden2 = scorer.hidden, scorer.hidden2
    for unit in range(hidden.size):
        hidden[unit] = scorer.first_bias[unit]
    for column in range(row.size):
        value = row[column] * scorer.scale[column] + scorer.shift[column]
        for unit in range(hidden.size):
            hidden[unit] += value * scorer.first[column, unit]
    for unit in range(hidden2.size):
        hidden2[unit] = scorer.second_bias[unit]
    for below in range(hidden.size):
        value = hidden[below]
        if value > 0.0:
            for unit in range(hidden2.size):
                hidden2[unit] += value * scorer.second[below, unit]
    result = scorer.last_bias[0]
    for unit in range(hidden2.size):
        if hidden2[unit] > 0.0:
            result += hidden2[unit] * scorer.last[unit]
    return result
