"""Geometric means of ratios between columns, with bootstrap intervals over pairs and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

DRAWS = 2000

#: Differences of step time that count, as a share.
MATTERS = 1e-3
_INTERVAL = (2.5, 97.5)

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
    high: float
    pairs: int
    faster: int
    """Pairs on which the first is faster by more than `MATTERS`, by the mean over seeds."""
    slower: int
    only_column: int
    """Runs in which the first alone has a plan that fits."""
    only_against: int

    @property
    def outside_noise(self) -> bool:
        """Whether the interval leaves out 1 and all that is as good as 1."""
        return self.high < 1.0 - MATTERS or self.low > 1.0 + MATTERS


@dataclass(frozen=True)
class PairRatio:
    """One column over another on a single pair."""

    graph: str
    cluster: str
    ratio: float
    outside_noise: bool
    """All seeds of one column are faster than all of the other."""


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers; nan of none."""
    return _exp_of_mean(np.log(values)) if len(values) else float("nan")


def ratio(
    column: str,
    against: str,
    ours: Mapping[Key, Times],
    theirs: Mapping[Key, Times],
    seed: int = 0,
) -> MeanRatio:
    """The geometric mean of step times over those of another column, seed by seed.

    Each pair counts the same, however many seeds it has. The interval is the percentile
    bootstrap: pairs are drawn with replacement, and of each pair drawn its seeds.

    Args:
        column, against: names, for the result alone.
        ours, theirs: step times of the two by pair and seed, in seconds.
        seed: of the bootstrap.
    """
    logs: list[Float64[np.ndarray, " _"]] = []  # each pair has seeds of its own
    only_column = only_against = 0
    for pair in sorted(set(ours) & set(theirs)):
        mine, other = ours[pair], theirs[pair]
        only_column += len(set(mine) - set(other))
        only_against += len(set(other) - set(mine))
        of_pair = _log_ratios(mine, other)
        if len(of_pair):
            logs.append(of_pair)
    if not logs:
        nan = float("nan")
        return MeanRatio(column, against, nan, nan, nan, 0, 0, 0, only_column, only_against)
    means = np.array([values.mean() for values in logs])
    low, high = np.exp(np.percentile(_draws(logs, seed), _INTERVAL))
    return MeanRatio(
        column,
        against,
        _exp_of_mean(means),
        float(low),
        float(high),
        len(logs),
        int((np.exp(means) < 1 - MATTERS).sum()),
        int((np.exp(means) > 1 + MATTERS).sum()),
        only_column,
        only_against,
    )


def pair_ratios(
    ours: Mapping[PairName, Times], theirs: Mapping[PairName, Times]
) -> tuple[PairRatio, ...]:
    """Pair by pair, the slowest against the other column first."""
    compared = []
    for pair in sorted(set(ours) & set(theirs)):
        mine, other = ours[pair], theirs[pair]
        logs = _log_ratios(mine, other)
        if not len(logs):
            continue
        apart = max(mine.values()) < min(other.values()) or min(mine.values()) > max(other.values())
        compared.append(PairRatio(*pair, _exp_of_mean(logs), apart))
    return tuple(sorted(compared, key=lambda item: -item.ratio))


def _log_ratios(ours: Times, theirs: Times) -> Float64[np.ndarray, " seeds"]:
    """Logarithms of the ratios, of the seeds that both have."""
    both = sorted(set(ours) & set(theirs))
    return np.log(np.array([ours[seed] / theirs[seed] for seed in both], np.float64))


def _exp_of_mean(logs: Float64[np.ndarray, " numbers"]) -> float:
    return float(np.exp(logs.mean()))


def _draws(logs: Sequence[Float64[np.ndarray, " _"]], seed: int) -> Float64[np.ndarray, " draws"]:
    """Means of resampled pairs, each the mean of its resampled seeds."""
    rng = np.random.default_rng(seed)
    width = max(map(len, logs))
    padded = np.zeros((len(logs), width))
    counts = np.array([len(values) for values in logs])
    for index, values in enumerate(logs):
        padded[index, : len(values)] = values
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        pairs = rng.integers(len(logs), size=len(logs))
        seeds = (rng.random((len(logs), width)) * counts[pairs, None]).astype(np.int64)
        values = padded[pairs[:, None], seeds]
        kept = np.arange(width) < counts[pairs, None]
        means[draw] = np.mean((values * kept).sum(axis=1) / counts[pairs])
    return means
