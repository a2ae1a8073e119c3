"""Local search over the borders of pieces, judged by the event engine.

Loads do not know what a pipeline waits for: that it fills and drains, that backward follows
forward, that a channel is asked for twice at once. So borders are moved by what the engine says,
most often those of the device that works longest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from placement.placer import Budget
from placement.throughput.pieces import Pieces
from placement.throughput.splits import Split

#: What pieces come to, given a split that is much like them.
Judge = Callable[[Pieces, Split | None], Split]

#: Pieces with more borders than that are not searched.
_MOST_PIECES = 64
#: Moves of one start without a better period after which the next one is tried.
_PATIENCE = 40


@dataclass(frozen=True, eq=False)
class _Found:
    pieces: Pieces
    split: Split

    @property
    def key(self) -> tuple[float, float]:
        """Sorts by what does not fit, then by period."""
        return badness(self.split), self.split.period_seconds


def badness(split: Split) -> float:
    """Zero for what fits, more where more does not."""
    if split.fits:
        return 0.0
    return 1.0 + split.excess_bytes


def search_borders(
    starts: Sequence[Pieces],
    judge: Judge,
    budget: Budget,
    seed: int,
    goal_seconds: float,
) -> Split | None:
    """The best split near the starts, within the budget; None where there is no start.

    Args:
        starts: the most promising first; each is judged, the best of them are searched in turn.
        judge: the split that pieces come to, simulated; told of one much like it, if there is one.
        goal_seconds: a period as good as none shorter: the search ends there.
    """
    rng = np.random.default_rng(seed)
    judged: list[_Found] = []
    for pieces in starts:
        if pieces.count <= _MOST_PIECES and (not judged or not budget.is_spent):
            judged.append(_Found(pieces, judge(pieces, None)))
    if not judged:
        return None
    judged.sort(key=lambda found: found.key)
    best = judged[0]
    several = [found for found in judged if found.pieces.count > 1]
    turn = 0
    while several and not budget.is_spent and best.key > (0.0, goal_seconds):
        start = several[turn] if turn < len(several) else best
        found = _descend(start, judge, budget, rng, goal_seconds)
        best = min(best, found, key=lambda item: item.key)
        turn += 1
        if turn > len(several) and best.pieces.count < 2:
            break
    return best.split


def _descend(
    start: _Found,
    judge: Judge,
    budget: Budget,
    rng: np.random.Generator,
    goal_seconds: float,
) -> _Found:
    """Moves that do not make the split worse, until none has made it better for a while."""
    at, idle = start, 0
    while idle < _PATIENCE and not budget.is_spent and at.key > (0.0, goal_seconds):
        pieces = _move(at, rng)
        if pieces is None:
            idle += 1
            continue
        found = _Found(pieces, judge(pieces, at.split))
        idle = 0 if found.key < at.key else idle + 1
        if found.key <= at.key:
            at = found
    return at


def _move(found: _Found, rng: np.random.Generator) -> Pieces | None:
    pieces = found.pieces
    if pieces.count < 2:
        return None
    if len(set(pieces.devices)) > 1 and rng.random() < 0.1:
        first, second = rng.choice(pieces.count, 2, replace=False)
        return pieces.swapped(int(first), int(second))
    border = int(rng.integers(1, pieces.count))
    shrink = bool(rng.random() < 0.5)
    if rng.random() < 0.6:
        piece = _longest_piece(found, rng)
        border = piece if piece and (piece == pieces.count - 1 or rng.random() < 0.5) else piece + 1
        shrink = border == piece + 1
        border = max(1, min(border, pieces.count - 1))
    longest = pieces.length(border - 1 if shrink else border)
    by = max(1, int(longest * 2.0 ** -rng.uniform(1, 8)))
    return pieces.shifted(border, -by if shrink else by)


def _longest_piece(found: _Found, rng: np.random.Generator) -> int:
    """A piece on the device that works longest."""
    simulated = found.split.simulated
    loads = found.split.loads_seconds if simulated is None else simulated.busy_seconds
    device = int(np.argmax(loads))
    mine = [piece for piece, at in enumerate(found.pieces.devices) if at == device]
    return int(rng.choice(mine)) if mine else int(rng.integers(found.pieces.count))
