"""How little memory per device a graph can do with, as far as the untaught decoder's plans tell.

The portfolio's plans tell more (`placement.placers.tight_memory`), for about ten times the time.
"""

import numpy as np

from placement.decoding.drawing import Decoder, untaught_scorer
from placement.decoding.style_weights import STYLE_WEIGHTS
from placement.decoding.styles import Noise, draw_styles
from placement.priorities import upward_ranks
from simulator.plan import Plan


def least_peak_bytes(decoder: Decoder) -> int:
    """The smallest peak of the fullest device among the greedy plans of all styles."""
    problem, count = decoder.problem, len(STYLE_WEIGHTS)
    numbers = np.arange(count, dtype=np.int32)
    styles = draw_styles(problem, numbers, Noise(), np.random.default_rng(0), count)
    drawn = decoder.draw(untaught_scorer(decoder), styles, 0).chosen
    plans = [Plan.of(at, upward_ranks(problem, at)) for at in map(decoder.devices, drawn)]
    peaks = problem.simulator.evaluate_many(plans).peak_bytes
    return int(peaks.max(axis=1).min())
