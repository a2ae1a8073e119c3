"""What is read off an evaluation's rows: step times to compare, stages, kinds of pairs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from agent.evaluation.runs import EvaluationRow
from placement.suites.pair import Headroom
from placement.suites.ratios import PairName


def times(
    rows: Iterable[EvaluationRow], raw: bool = False
) -> dict[str, dict[PairName, dict[int, float]]]:
    """Step times that fit by column, pair and seed.

    Args:
        raw: what policies themselves decided, without anything to fall back to.
    """
    seconds: dict[str, dict[PairName, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        of_pair = seconds[row.column][row.graph, row.cluster]
        if row.raw_feasible if raw else row.feasible:
            of_pair[row.seed] = row.raw_seconds if raw else row.makespan_seconds
    return {column: dict(pairs) for column, pairs in seconds.items()}


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
