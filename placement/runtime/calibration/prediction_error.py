"""How well predicted step times agree with measured ones."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from placement.runtime.measurement import Measurement
from simulator.clusters.calibration import PredictionError


def prediction_error(
    names: Sequence[str],
    predicted: Sequence[float],
    measured: Sequence[Measurement],
    groups: Sequence[str] = (),
) -> PredictionError:
    """Compare plan by plan; failed measurements are left out. See `error_of`."""
    kept = [i for i, item in enumerate(measured) if item.ok]
    return error_of(
        [names[i] for i in kept],
        np.array([predicted[i] for i in kept]),
        np.array([measured[i].seconds for i in kept]),
        np.array([measured[i].interval() for i in kept]).reshape(-1, 2),
        [groups[i] for i in kept] if groups else (),
    )


def error_of(
    names: Sequence[str],
    guess: Float64[np.ndarray, " plans"],
    truth: Float64[np.ndarray, " plans"],
    intervals: Float64[np.ndarray, "plans 2"],
    groups: Sequence[str] = (),
) -> PredictionError:
    """Compare predicted with measured step times.

    `groups` tells which plans took turns; the first of each is what the others are relative to,
    and only plans of one group are ranked against each other. A pair is clear where the 95%
    intervals of both medians are disjoint.
    """
    error = np.abs(guess / truth - 1.0)
    group = np.array(groups or [""] * len(names))
    shares = np.zeros(len(names))
    for name in set(group.tolist()):
        mine = np.flatnonzero(group == name)
        quotient = guess[mine] / truth[mine]
        shares[mine] = np.abs(quotient / quotient[0] - 1.0)
    same = group[:, None] == group[None, :]
    clear = (intervals[:, None, 0] > intervals[None, :, 1]) | (
        intervals[None, :, 0] > intervals[:, None, 1]
    )
    worst = int(error.argmax()) if len(names) else -1
    return PredictionError(
        plans=len(names),
        mape=float(error.mean()) if len(names) else float("nan"),
        mape_relative=float(shares.mean()) if len(names) else float("nan"),
        worst=float(error.max(initial=0.0)),
        worst_plan=names[worst] if len(names) else "none",
        pearson=_pearson(guess, truth),
        kendall=kendall(guess, truth, same),
        kendall_clear=kendall(guess, truth, clear & same),
        regret=max(
            (_regret(guess[group == g], truth[group == g]) for g in set(group.tolist())),
            default=float("nan"),
        ),
    )


def kendall(
    a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"], counted: np.ndarray
) -> float:
    """Concordant minus discordant pairs over all pairs that count; ties are neither."""
    upper = np.triu(counted, 1)
    agree = np.sign(a[:, None] - a[None, :]) * np.sign(b[:, None] - b[None, :])
    pairs = int(upper.sum())
    return float(agree[upper].sum() / pairs) if pairs else float("nan")


def _pearson(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float:
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _regret(guess: Float64[np.ndarray, " n"], truth: Float64[np.ndarray, " n"]) -> float:
    return float(truth[guess.argmin()] / truth.min() - 1.0)
