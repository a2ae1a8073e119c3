"""Random numbers inside the decoder: a stream of its own for every plan."""

import numpy as np
from jaxtyping import UInt64

from simulator.compiled import inlined

_LEAST = 1e-300


@inlined
def begin_draws(state: UInt64[np.ndarray, " 1"], seed: np.uint64, number: int) -> None:
    """Set the state for one of many streams (splitmix64, Steele et al. 2014)."""
    x = seed + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state[0] = (x ^ (x >> np.uint64(31))) | np.uint64(1)


@inlined
def draw_gumbel(state: UInt64[np.ndarray, " 1"]) -> float:
    """A standard Gumbel number, from xorshift64* (Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    bits = (x * np.uint64(2685821657736338717)) >> np.uint64(11)
    uniform = bits * (1.0 / 9007199254740992.0)
    return -np.log(max(-np.log(max(uniform, _LEAST)), _LEAST))
