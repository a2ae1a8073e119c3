"""Logarithmic scales in which costs and traces are told to networks: 0 for next to none, 1 for all.

Features of single moves are worked out in kernels, all others with numpy. The two round in
different places, a last digit apart; networks have learned from both, so that neither can change.
"""

import numpy as np

from simulator.compiled import inlined

#: Shares below this count as this much.
LEAST_SHARE = 1e-7
#: Powers of ten between that and the whole.
DECADES = 7.0


def log_share(values: np.ndarray) -> np.ndarray:
    """0 for a ten-millionth and less, 1 for one; above one it goes on."""
    return 1.0 + np.log10(np.maximum(values, LEAST_SHARE)) / DECADES


def log_count(values: np.ndarray) -> np.ndarray:
    """0 for none, about 1 for a thousand."""
    return np.log1p(values) / np.log(1000.0)


@inlined
def log_of_share(value: float) -> float:
    """`log_share` of a single number, compiled."""
    return (np.log10(max(value, LEAST_SHARE)) + DECADES) / DECADES


@inlined
def signed_log_of_share(value: float) -> float:
    """The same of a share that may be negative: fine near zero, 1 for the whole."""
    if value < 0.0:
        return -log_of_share(-value)
    return log_of_share(value)
