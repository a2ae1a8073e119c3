"""Geometric means of ratios between columns, with intervals over pairs and verdicts.

Pairs are what is drawn: each counts by the mean over its seeds, of the logarithm. Intervals are
Student's, which hold for few pairs as well, where a bootstrap is far too narrow. Of a single pair
its seeds are what is drawn. A verdict takes `LEAST_DRAWN` of either, and of several comparisons
those that stand are told by Holm's method, so that one in twenty families has any false verdict,
however many columns there are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

#: Differences of step time that count, as a share.
MATTERS = 1e-3

#: No verdict is given on fewer pairs, or on fewer seeds of a single pair: two draws tell next to
#: nothing of how far they scatter.
LEAST_DRAWN = 3

#: Chance of a false verdict among all comparisons of a family; intervals hold with the rest.
LEVEL = 0.05

#: Logarithms that scatter less than this are equal.
_ROUNDING = 1e-12

#: A graph and a cluster.
PairName = tuple[str, str]
#: What tells pairs apart: their names, or the numbers of their rows.
Key = TypeVar("Key", PairName, int)
#: Step time by seed, of the seeds whose plan fits.
Times = Mapping[int, float]


@dataclass(frozen=True)
class MeanRatio:
    """One column over another, on the pairs and seeds where both have a plan that fits."""

    column: str
    against: str
    geometric_mean: float
    """Below 1 where the first is faster; nan where no pair has both."""
    low: float
    """Of the interval that holds with 95%, for this comparison alone; nan of less than 2 pairs."""
    high: float
    pairs: int
    faster: int
    """Pairs on which the first is faster by more than `MATTERS`, by the mean over seeds."""
    slower: int
    only_column: int
    """Runs in which the first alone has a plan that fits."""
    only_against: int
    chance: float = 1.0
    """Of a difference like this, or a larger one, where there is none beyond `MATTERS`; 1 where
    there are too few pairs for a verdict."""
    outside_noise: bool = False
    """Whether a difference stands: by itself, or among all that were `judged` together."""


@dataclass(frozen=True)
class PairRatio:
    """One column over another on a single pair."""

    graph: str
    cluster: str
    ratio: float
    outside_noise: bool
    """Whether its seeds tell the columns apart, of all pairs that were compared together."""


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers; nan of none."""
    return _exp_of_mean(np.log(values)) if len(values) else float("nan")


def ratio(
    column: str, against: str, ours: Mapping[Key, Times], theirs: Mapping[Key, Times]
) -> MeanRatio:
    """The geometric mean of step times over those of another column, seed by seed.

    Each pair counts the same, however many seeds it has.

    Args:
        column, against: names, for the result alone.
        ours, theirs: step times of the two by pair and seed, in seconds.
    """
    means: list[float] = []
    only_column = only_against = 0
    for pair in sorted(set(ours) & set(theirs)):
        mine, other = ours[pair], theirs[pair]
        only_column += len(set(mine) - set(other))
        only_against += len(set(other) - set(mine))
        of_pair = _log_ratios(mine, other)
        if len(of_pair):
            means.append(float(of_pair.mean()))
    if not means:
        nan = float("nan")
        return MeanRatio(column, against, nan, nan, nan, 0, 0, 0, only_column, only_against)
    drawn = np.array(means)
    low, high = _interval(drawn)
    chance = chance_of_none(drawn)
    return MeanRatio(
        column,
        against,
        _exp_of_mean(drawn),
        low,
        high,
        len(drawn),
        int((np.exp(drawn) < 1 - MATTERS).sum()),
        int((np.exp(drawn) > 1 + MATTERS).sum()),
        only_column,
        only_against,
        chance,
        chance < LEVEL,
    )


def judged(compared: Sequence[MeanRatio]) -> tuple[MeanRatio, ...]:
    """The same with verdicts that hold for all comparisons of a column together."""
    families: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(compared):
        families[item.column].append(number)
    result = list(compared)
    for numbers in families.values():
        stands = holm([compared[number].chance for number in numbers])
        for number, verdict in zip(numbers, stands, strict=True):
            result[number] = replace(compared[number], outside_noise=verdict)
    return tuple(result)


def holm(chances: Sequence[float], level: float = LEVEL) -> tuple[bool, ...]:
    """Which of several findings stand, so that all that do are true with `1 - level` (Holm, 1979).

    Args:
        chances: of each finding, where there is nothing to be found.
        level: chance of any false one.
    """
    stands = [False] * len(chances)
    for rank, number in enumerate(sorted(range(len(chances)), key=lambda at: chances[at])):
        if chances[number] >= level / (len(chances) - rank):
            break
        stands[number] = True
    return tuple(stands)


def chance_of_none(logs: Float64[np.ndarray, " drawn"]) -> float:
    """The chance of a mean as far from zero as this one, or farther, if the true one is no farther
    than `MATTERS` (Student's t, two-sided); 1 of fewer than `LEAST_DRAWN` draws.

    Args:
        logs: logarithms of ratios, drawn independently.
    """
    from scipy.special import stdtr

    if len(logs) < LEAST_DRAWN:
        return 1.0
    beyond = abs(float(logs.mean())) - float(np.log1p(MATTERS))
    if beyond <= 0:
        return 1.0
    error = _error_of_mean(logs)
    return 2 * float(stdtr(len(logs) - 1, -beyond / error)) if error else 0.0


def _interval(logs: Float64[np.ndarray, " drawn"]) -> tuple[float, float]:
    """Of the geometric mean, with 95%."""
    from scipy.special import stdtrit

    if len(logs) < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(len(logs) - 1, 1 - LEVEL / 2)) * _error_of_mean(logs)
    mean = float(logs.mean())
    return float(np.exp(mean - half)), float(np.exp(mean + half))


def _error_of_mean(logs: Float64[np.ndarray, " drawn"]) -> float:
    """Its standard error; exactly zero where all are equal but for rounding."""
    deviation = float(logs.std(ddof=1))
    return 0.0 if deviation < _ROUNDING else deviation / float(np.sqrt(len(logs)))


def pair_ratios(
    ours: Mapping[PairName, Times], theirs: Mapping[PairName, Times]
) -> tuple[PairRatio, ...]:
    """Pair by pair, the slowest against the other column first."""
    compared = {
        pair: logs
        for pair in sorted(set(ours) & set(theirs))
        if len(logs := _log_ratios(ours[pair], theirs[pair]))
    }
    stands = holm([chance_of_none(logs) for logs in compared.values()])
    items = [
        PairRatio(*pair, _exp_of_mean(logs), apart)
        for (pair, logs), apart in zip(compared.items(), stands, strict=True)
    ]
    return tuple(sorted(items, key=lambda item: -item.ratio))


def _log_ratios(ours: Times, theirs: Times) -> Float64[np.ndarray, " seeds"]:
    """Logarithms of the ratios, of the seeds that both have."""
    both = sorted(set(ours) & set(theirs))
    return np.log(np.array([ours[seed] / theirs[seed] for seed in both], np.float64))


def _exp_of_mean(logs: Float64[np.ndarray, " numbers"]) -> float:
    return float(np.exp(logs.mean()))
