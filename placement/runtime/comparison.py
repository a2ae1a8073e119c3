"""Which of several plans is the fastest, if the measurements can tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placement.runtime.measurement import Measurement

_DRAWS = 2000


@dataclass(frozen=True)
class MeasuredRatio:
    """How much longer one plan takes than another, with a 95% interval."""

    value: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 1."""
        return not (self.low > 1.0 or self.high < 1.0)


def ratio(slower: Measurement, faster: Measurement, seed: int = 0) -> MeasuredRatio:
    """Step time of the first over the second's, paired by round.

    Rounds of plans that were measured in turns saw the same disturbances, so that their quotients
    scatter less than the times do.
    """
    pairs = min(len(slower.rounds), len(faster.rounds))
    if not (slower.ok and faster.ok) or pairs == 0:
        return MeasuredRatio(float("nan"), float("-inf"), float("inf"))
    quotients = slower.rounds[:pairs] / faster.rounds[:pairs]
    drawn = np.random.default_rng(seed).choice(quotients, (_DRAWS, pairs))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return MeasuredRatio(float(np.median(quotients)), float(low), float(high))


def winner(measurements: Sequence[Measurement], seed: int = 0) -> int | None:
    """The position of the fastest plan; None where noise could have made it so.

    It must beat each of the others by more than the 95% interval of their paired quotient, and
    there must be at least five rounds.
    """
    ranked = sorted(
        (i for i, item in enumerate(measurements) if item.ok),
        key=lambda i: measurements[i].seconds,
    )
    if not ranked or any(len(measurements[i].rounds) < 5 for i in ranked):
        return None
    first = ranked[0]
    others = [ratio(measurements[i], measurements[first], seed) for i in ranked[1:]]
    return first if others and all(item.low > 1.0 for item in others) else None
