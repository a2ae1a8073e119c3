"""Plans for steps that overlap: the least largest load, beside what other tools cut by.

torch's pipelining, accelerate and Olive cut a model into runs of as many layers, bytes or flops.
Here the cut is the best of these, of the exact contiguous split where it can be listed, and of a
local search over all placements; of those that are about as good, the one that sends the fewest
tensors. A device's load is its compute and, unless it computes in host memory,
what it sends and receives over PCI Express, one after the other: what a split ONNX model does, and
an upper estimate where transfers run beside compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from graphs.errors import GraphwrightError
from graphs.kinds import Phase
from placement.placer import Budget, Candidate, OnProgress, Placed, Stage
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.simplicity import complexity_of, known_error
from placement.throughput.contiguous import best_contiguous_split
from placement.throughput.ideals import Nodes, nodes_of
from placement.throughput.load_problem import LoadProblem, load_problem
from placement.throughput.load_search import search_loads
from placement.throughput.loads import device_loads, fits
from placement.throughput.orders import topological_order
from placement.throughput.starts import simple_splits
from simulator.clusters.device_specs import PCIE
from simulator.errors import InfeasibleError
from simulator.plan import Plan

#: More ideals than that are not listed for `place`: the exact split takes seconds.
_MOST_IDEALS = 20_000
#: At each border a runtime fuses less than in the whole model, which no load tells: 23 parts of a
#: transformer that were to be 8% faster than two ran a third slower on two cores
#: (`benchmarks/speed/split_stream.py`). Splits that differ by less are taken for alike.
_BORDERS_COST = 0.1
#: Units of which orders are tried; larger graphs begin from runs of layers alone.
_MOST_UNITS = 4000


@dataclass(frozen=True, eq=False)
class Split:
    """One way to cut a model."""

    name: str
    devices: Int32[np.ndarray, " ops"]
    period_seconds: float
    """Between the ends of successive steps, once the pipeline is full: the largest load."""
    loads_seconds: Float64[np.ndarray, " devices"]
    fits: bool
    """Whether what is held from step to step fits; activations of steps on the way do not count."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The split to run, and the others."""

    best: Split
    """Of those whose periods are alike, the one with the fewest crossings."""
    others: tuple[Split, ...]
    bound_seconds: float
    """No placement has a shorter period: all work spread perfectly within memory."""
    latency_seconds: float
    """Of one step on its own, simulated."""

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        return {
            "objective": "throughput",
            "period_seconds": self.best.period_seconds,
            "latency_seconds": self.latency_seconds,
            "steps_per_second": 1.0 / max(self.best.period_seconds, 1e-300),
            "period_bound_seconds": self.bound_seconds,
            "splits": {
                split.name: split.period_seconds
                for split in (self.best, *self.others)
                if split.fits
            },
        }


def hop_bytes_per_second(problem: Problem) -> float:
    """Between a device and the host: the slowest PCI Express of the cluster's devices."""
    kinds = {device.kind for device in problem.cluster.devices}
    return min(PCIE.get(kind, PCIE["a100"]).bytes_per_second for kind in kinds)


def plan_pipeline(problem: Problem, budget: Budget, seed: int) -> Pipeline:
    """Find the split with the shortest period.

    Args:
        budget: CPU seconds for the local search; the exact split comes on top.

    Raises:
        InfeasibleError: no split was found that fits in memory.
    """
    loads = load_problem(problem, hop_bytes_per_second(problem))
    nodes = nodes_of(loads)
    found = [*_equal_cuts(loads, nodes), *_single(loads)]
    starts = [units for _, units in found]
    if loads.unit_count <= _MOST_UNITS:
        starts += simple_splits(loads, seed)
    exact = _exact(loads)
    if exact is not None:
        found.append(("contiguous, exact", exact))
        starts.insert(0, exact)
    searched = search_loads(loads, starts, max(budget.left_seconds, 0.1), seed)
    found.append(("search", searched))
    splits = [_split(loads, name, units) for name, units in found]
    good = [split for split in splits if split.fits and np.isfinite(split.period_seconds)]
    if not good:
        raise InfeasibleError(
            "no split was found whose weights fit in memory; take more devices or larger ones"
        )
    best = simplest_of(problem, good)
    plan = pipeline_plan(problem, best)
    latency = problem.simulator.evaluate(plan).makespan_seconds
    others = tuple(split for split in splits if split is not best)
    return Pipeline(best, others, problem.bounds.load_seconds, latency)


def simplest_of(problem: Problem, splits: Sequence[Split]) -> Split:
    """Of the splits whose periods are about the shortest, the one with the fewest crossings."""
    least = min(split.period_seconds for split in splits)
    alike = least * (1.0 + max(known_error(problem.given_cluster), _BORDERS_COST))

    def key(split: Split) -> tuple[int, float]:
        return complexity_of(problem.graph, split.devices).crossings, split.period_seconds

    return min((split for split in splits if split.period_seconds <= alike), key=key)


def pipeline_plan(problem: Problem, split: Split) -> Plan:
    """The split as a plan, in critical-path order."""
    return Plan.of(split.devices, upward_ranks(problem, split.devices))


def _split(loads: LoadProblem, name: str, units: Int32[np.ndarray, " units"]) -> Split:
    busy = device_loads(loads, units)
    ops = units[loads.problem.unit_of]
    return Split(name, ops, float(busy.max()), busy, fits(loads, units))


def _exact(loads: LoadProblem) -> Int32[np.ndarray, " units"] | None:
    """The best contiguous split, where devices are alike and its ideals can be listed."""
    p = loads.arrays
    accelerators = np.flatnonzero(loads.sends)
    cores = np.flatnonzero(loads.sends == 0)
    for alike in (accelerators, cores):
        if alike.size and not (p.seconds[:, alike] == p.seconds[:, alike[:1]]).all():
            return None
    if loads.unit_count > _MOST_UNITS:
        return None
    try:
        split = best_contiguous_split(loads, _MOST_IDEALS)
    except InfeasibleError:
        return None
    return None if split is None else split.devices


def _single(loads: LoadProblem) -> list[tuple[str, Int32[np.ndarray, " units"]]]:
    fastest = int(loads.arrays.seconds.sum(axis=0).argmin())
    return [("one device", np.full(loads.unit_count, fastest, np.int32))]


def _equal_cuts(loads: LoadProblem, nodes: Nodes) -> list[tuple[str, Int32[np.ndarray, " units"]]]:
    """As other tools cut: runs of as many units, bytes held, or flops, for every device."""
    graph, unit_of = loads.problem.graph, loads.problem.unit_of
    if nodes.count > _MOST_UNITS:
        return []
    order = topological_order(nodes, 0)
    flops = np.bincount(unit_of, graph.flops, loads.unit_count)
    weights = {
        "equal layers": np.ones(loads.unit_count),
        "equal bytes": loads.arrays.memory_bytes + 1e-9,
        "equal flops": flops + 1e-9,
    }
    cuts = []
    for name, weight in weights.items():
        done = np.cumsum(np.bincount(nodes.node_of, weight, nodes.count)[order])
        stage = np.minimum(
            (done / done[-1] * loads.device_count * (1 - 1e-12)).astype(np.int32),
            loads.device_count - 1,
        )
        of_node = np.empty(nodes.count, np.int32)
        of_node[order] = stage
        cuts.append((name, of_node[nodes.node_of]))
    return cuts


class PipelinePlacer:
    """A `Placer` for throughput; what it found besides the plan is in `pipeline`."""

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """The plan of the shortest period.

        Raises:
            GraphwrightError: a single device, or a training step, whose updates the next waits for.
            InfeasibleError: no split was found that fits in memory.
        """
        if problem.cluster.device_count < 2:
            raise GraphwrightError("throughput takes at least two devices to overlap steps on")
        if (problem.graph.phases == Phase.UPDATE).any():
            raise GraphwrightError(
                "steps of this graph cannot overlap: each waits for the parameters that the one "
                "before updates; throughput is for inference (micro-batches of one training step "
                "are estimated beside plans for latency)"
            )
        on_progress(0.0)
        self.pipeline = plan_pipeline(problem, budget, seed)
        plan = pipeline_plan(problem, self.pipeline.best)
        best = Candidate(plan, problem.evaluate(plan), f"throughput: {self.pipeline.best.name}")
        others = tuple(
            Candidate(item, problem.evaluate(item), split.name)
            for split in self.pipeline.others
            if (item := pipeline_plan(problem, split)) is not None
        )
        stage = Stage("throughput", budget.spent_seconds, best.evaluation.makespan_seconds)
        return Placed(best, others, evaluations=len(others) + 1, stages=(stage,))
