"""A pipeline of equal layers: each device a run of layers, the batch in micro-batches."""

import numpy as np

from graphs.kinds import Phase
from placement.heuristics.layers import unit_layers
from placement.problem import Problem
from placement.rivals.batch_share import BatchShare

#: Numbers of micro-batches that are compared.
_MICRO_BATCHES = (2, 4, 8, 16, 32)


def layer_pipeline_estimate(
    problem: Problem, share: BatchShare, devices: np.ndarray
) -> tuple[str, float, int, str] | None:
    """As many layers for every device, with the number of micro-batches that is best.

    All forward, then all backward (Huang et al., "GPipe", NeurIPS 2019): with `m` micro-batches and
    `k` stages, `m + k - 1` times the slowest stage's micro-batch, forward and backward, then the
    slowest update. Sends are left out: they run beside the next micro-batch.

    Returns:
        name, seconds, bytes on the fullest device and what is assumed; None for fewer layers than
        devices.
    """
    count = len(devices)
    layers = unit_layers(problem)[problem.unit_of]
    distinct = np.unique(layers)
    if len(distinct) < count:
        return None
    bounds = [part[-1] for part in np.array_split(distinct, count)[:-1]]
    stage = np.searchsorted(np.array(bounds), layers)
    graph = problem.graph
    state = np.bincount(stage, graph.resident_bytes, count)
    best: tuple[float, int] | None = None
    for parts in _MICRO_BATCHES:
        seconds = share.on(1.0 / parts)
        slots = 0.0
        for phase in (Phase.FORWARD, Phase.BACKWARD):
            slots += float(np.bincount(stage, seconds * (share.phases == phase), count).max())
        updates = float(np.bincount(stage, seconds * (share.phases == Phase.UPDATE), count).max())
        total = (parts + count - 1) * slots + updates
        if best is None or total < best[0]:
            best = (total, parts)
    assert best is not None
    peak = int(state.max()) + share.activation_bytes // count
    how = f"{count} stages of as many layers, {best[1]} micro-batches, all forward, then backward"
    return "equal-layers pipeline", best[0], peak, how
