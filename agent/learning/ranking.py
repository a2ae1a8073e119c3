"""How well scores rank what they score."""

import numpy as np
from jaxtyping import Float64


def ranking_area(scores: Float64[np.ndarray, " moves"], better: np.ndarray) -> float:
    """Chance that a move that improves has a higher score than one that does not (AUC).

    Not a number where all moves do the same.
    """
    good, bad = int(better.sum()), int((~better).sum())
    if not good or not bad:
        return float("nan")
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return float((ranks[better].sum() - good * (good - 1) / 2) / (good * bad))
