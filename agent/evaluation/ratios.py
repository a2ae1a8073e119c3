"""Geometric means of ratios between columns, with bootstrap intervals over pairs and seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.evaluation.runs import EvaluationRow
from placement.suites.pair import Headroom

DRAWS = 2000

#: Differences of step time that count, as a share.
MATTERS = 1e-3
_INTERVAL = (2.5, 97.5)

PairName = tuple[str, str]
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


def times(
    rows: Iterable[EvaluationRow], raw: bool = False
) -> dict[str, dict[PairName, dict[int, float]]]:
    """Step times that fit by column, pair and seed.

    Args:
        raw: what policies themselves decided, without anything to fall back to.
    """
    found: dict[str, dict[PairName, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        of_pair = found[row.column][row.graph, row.cluster]
        if row.raw_feasible if raw else row.feasible:
            of_pair[row.seed] = row.raw_seconds if raw else row.makespan_seconds
    return {column: dict(pairs) for column, pairs in found.items()}


def ratio(
    column: str,
    against: str,
    ours: Mapping[PairName, Times],
    theirs: Mapping[PairName, Times],
    seed: int = 0,
) -> MeanRatio:
    """The geometric mean of step times over those of another column, seed by seed.

    The interval is the percentile bootstrap: pairs are drawn with replacement, and of each pair
    drawn its seeds.
    """
    logs: list[np.ndarray] = []
    only_column = only_against = 0
    for pair in sorted(set(ours) & set(theirs)):
        mine, other = ours[pair], theirs[pair]
        both = sorted(set(mine) & set(other))
        only_column += len(set(mine) - set(other))
        only_against += len(set(other) - set(mine))
        if both:
            logs.append(np.array([np.log(mine[each] / other[each]) for each in both]))
    if not logs:
        nan = float("nan")
        return MeanRatio(column, against, nan, nan, nan, 0, 0, 0, only_column, only_against)
    means = np.array([values.mean() for values in logs])
    low, high = np.exp(np.percentile(_draws(logs, seed), _INTERVAL))
    return MeanRatio(
        column,
        against,
        float(np.exp(means.mean())),
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
    found = []
    for pair in sorted(set(ours) & set(theirs)):
        mine, other = ours[pair], theirs[pair]
        both = sorted(set(mine) & set(other))
        if not both:
            continue
        mean = float(np.exp(np.mean([np.log(mine[each] / other[each]) for each in both])))
        apart = max(mine.values()) < min(other.values()) or min(mine.values()) > max(other.values())
        found.append(PairRatio(*pair, mean, apart))
    return tuple(sorted(found, key=lambda item: -item.ratio))


def stage_shares(rows: Iterable[EvaluationRow]) -> dict[str, float]:
    """What each stage brought of the logarithm of step time gained since the first, on average.

    The first of the stages is the mark that is measured from; runs that gained nothing do not
    count. Empty where no run has stages.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        times = np.array(row.stage_seconds)
        if len(times) < 2 or not np.isfinite(times).all() or times[-1] >= times[0]:
            continue
        logs = np.log(times)
        for name, gained in zip(row.stages[1:], logs[:-1] - logs[1:], strict=True):
            shares[name].append(gained / (logs[0] - logs[-1]))
    return {name: float(np.mean(values)) for name, values in shares.items()}


def with_headroom(rows: Sequence[EvaluationRow], has_headroom: bool) -> list[EvaluationRow]:
    """Rows of pairs on which something can be won, or of those on which nothing can."""
    return [row for row in rows if (row.headroom != Headroom.NONE) == has_headroom]


def _draws(logs: Sequence[np.ndarray], seed: int) -> np.ndarray:
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
