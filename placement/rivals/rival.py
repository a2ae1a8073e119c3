"""The ways to use several devices that place no single op, and what a step would take with them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graphs.kinds import Phase
from placement.problem import Problem
from placement.rivals.batch_share import BatchShare
from placement.rivals.data_parallel import data_parallel_estimate
from placement.rivals.layer_pipeline import layer_pipeline_estimate


@dataclass(frozen=True)
class Rival:
    """An estimate: simpler than a simulation, and said to be one wherever it is shown."""

    name: str
    devices: int
    makespan_seconds: float
    peak_bytes: int
    """On the fullest device."""
    feasible: bool
    how: str
    """What the estimate assumes, in one sentence."""

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        return asdict(self)


#: Estimates for a number of devices: name, seconds, bytes on the fullest device, assumptions.
Estimate = Callable[[Problem, BatchShare, np.ndarray], tuple[str, float, int, str] | None]

ESTIMATES: tuple[Estimate, ...] = (data_parallel_estimate, layer_pipeline_estimate)


def rivals_of(problem: Problem) -> tuple[Rival, ...]:
    """The best of each way for the training step of a problem; none for other graphs, on a single
    device, or under constraints, which the ways do not keep.

    Devices are taken from the largest set that are alike; all of them, half, a quarter and so on.
    """
    graph = problem.graph
    trains = bool((graph.phases == Phase.UPDATE).any() and (graph.phases == Phase.BACKWARD).any())
    alike = _alike_devices(problem)
    rules = problem.constraints
    if not trains or len(alike) < 2 or rules.pins or rules.forbidden:
        return ()
    share = BatchShare.of(problem, int(alike[0]))
    found = []
    for estimate in ESTIMATES:
        rows = []
        count = len(alike)
        while count > 1:
            made = estimate(problem, share, alike[:count])
            if made is not None:
                name, seconds, peak, how = made
                fits = peak <= int(problem.cluster.memory_bytes[alike[:count]].min())
                rows.append(Rival(name, count, seconds, peak, fits, how))
            count //= 2
        if rows:
            found.append(min(rows, key=lambda row: (not row.feasible, row.makespan_seconds)))
    return tuple(found)


def _alike_devices(problem: Problem) -> np.ndarray:
    """The largest set of devices of one kind and memory, in the cluster's order."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, device in enumerate(problem.cluster.devices):
        groups.setdefault((device.kind, device.memory_bytes), []).append(index)
    return np.array(max(groups.values(), key=len))
