"""Plans for steps that overlap: the shortest period, beside what other tools cut by.

Splits come from exact cuts of linear orders, from all contiguous splits where these can be listed,
from runs of equal layers, bytes and flops, and from a local search that begins at the best of them.
Loads find them; the event engine decides among the best few. Of those about as good, the one that
sends the fewest tensors is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32

from placement.placer import Budget
from placement.problem import Problem
from placement.throughput.chain_split import ChainSplit, split_order
from placement.throughput.contiguous import best_contiguous_split
from placement.throughput.engine_choice import (
    decided_by_engine,
    default_in_flight,
    steps_simulator,
)
from placement.throughput.equal_cuts import equal_cuts
from placement.throughput.held_memory import most_steps_held
from placement.throughput.linear_orders import linear_orders
from placement.throughput.load_problem import (
    LoadProblem,
    channel_problem,
    load_problem,
    op_shares,
)
from placement.throughput.load_search import search_loads
from placement.throughput.period_bound import period_bound
from placement.throughput.replication import ReplicatedSplit, replicated_split
from placement.throughput.request import Throughput, Transfers
from placement.throughput.splits import Split, pipeline_plan, simplest_of, split_of, stages_of
from simulator.clusters.device_specs import PCIE
from simulator.errors import InfeasibleError

#: More ideals than that are not listed for `place`: the exact split takes seconds.
_MOST_IDEALS = 20_000
#: Units of which ideals are counted.
_MOST_UNITS = 4000
#: A replicated split is told of where it is faster by such a share.
_WORTH_TELLING = 0.01
#: Search ends where the period is this close to the bound.
_AT_BOUND = 1e-4
#: Of the time that is left once exact cuts are known; the event engine needs the rest.
_SEARCH_SHARE = 0.75

Units = Int32[np.ndarray, " units"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The split to run, and the others."""

    best: Split
    """Of those whose periods are alike, the one with the fewest crossings."""
    others: tuple[Split, ...]
    bound_seconds: float
    """No placement has a shorter period: all work spread perfectly within memory."""
    latency_seconds: float
    """Of one step: from its release to its end among others where the event engine was asked, else
    on its own."""
    in_flight: int
    """Steps on the way at once."""
    stages: tuple[Mapping[str, Any], ...] = ()
    """Plain values for each device in use, in the order in which a step comes to them."""
    replicated: ReplicatedSplit | None = None
    """Stages on several devices each, where that is faster by their loads."""

    @property
    def period_seconds(self) -> float:
        return self.best.period_seconds

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        replicated = {} if self.replicated is None else {"replicated": self.replicated.as_dict()}
        return {
            "objective": "throughput",
            "period_seconds": self.best.period_seconds,
            "latency_seconds": self.latency_seconds,
            "steps_per_second": 1.0 / max(self.best.period_seconds, 1e-300),
            "period_bound_seconds": self.bound_seconds,
            "in_flight": self.in_flight,
            "splits": {
                split.name: split.period_seconds
                for split in (self.best, *self.others)
                if split.fits
            },
            "stages": list(self.stages),
            **replicated,
        }


def hop_bytes_per_second(problem: Problem) -> float:
    """Between a device and the host: the slowest PCI Express of the cluster's devices."""
    kinds = {device.kind for device in problem.cluster.devices}
    return min(PCIE.get(kind, PCIE["a100"]).bytes_per_second for kind in kinds)


def plan_pipeline(
    problem: Problem, budget: Budget, seed: int, request: Throughput | None = None
) -> Pipeline:
    """Find the split with the shortest period.

    Args:
        budget: CPU seconds, most of them for the local search; exact cuts come first, the event
            engine last, and neither is cut short.
        seed: of the search's moves.
        request: steps in flight, micro-batches and how tensors travel; None: requests of an
            inference graph on the simulator's machine.

    Raises:
        InfeasibleError: no split was found that fits in memory, or not with as many steps in
            flight as were asked for; the message says how many fit.
    """
    request = request or Throughput()
    loads, cuts, orders = _cuts(problem, request)
    bound = period_bound(loads, op_shares(problem, request.micro_batches))
    found = {**_baselines(loads, cuts, orders), **_ideal_cut(loads)}
    for cut in cuts.values():
        for fewer in cut.fewer:
            used = len({device for stage in fewer.stages for device in stage.devices})
            found[f"contiguous on {used}"] = fewer.devices
    replicated = replicated_split(loads, orders["depth first"])
    left = max(_SEARCH_SHARE * budget.left_seconds, 0.1)
    goal = bound * (1 + _AT_BOUND)
    found["search"] = search_loads(loads, _starts(loads, found), left, seed, goal)
    splits = [split_of(loads, name, units) for name, units in found.items()]
    good = [split for split in splits if split.fits and np.isfinite(split.period_seconds)]
    if not good:
        raise InfeasibleError(
            "no split was found whose weights fit in memory; take more devices or larger ones"
        )
    engine = steps_simulator(problem) if request.transfers == Transfers.CHANNELS else None
    if engine is not None:
        judged = decided_by_engine(problem, engine, good, request)
        splits = [split for split in splits if split not in good] + judged
        good = [split for split in judged if split.simulated is not None and split.fits]
    best = simplest_of(problem, good)
    return Pipeline(
        best,
        tuple(split for split in splits if split is not best),
        bound,
        _latency(problem, best),
        _in_flight(problem, best, request),
        tuple(stages_of(problem, best)),
        _worth_telling(replicated, min(good, key=_load)),
    )


def _cuts(
    problem: Problem, request: Throughput
) -> tuple[LoadProblem, dict[str, ChainSplit], dict[str, Units]]:
    """The best cut of each linear order, with as many steps held in memory as fit.

    Where no contiguous cut fits, the problem is the one with the least in memory.
    """
    if request.transfers == Transfers.HOPS:
        loads = load_problem(problem, hop_bytes_per_second(problem))
        orders = linear_orders(loads)
        return loads, _cut_all(loads, orders), orders
    steps = most_steps_held(problem, request)
    while True:
        loads = channel_problem(problem, request, steps)
        orders = linear_orders(loads)
        cuts = _cut_all(loads, orders)
        if cuts or steps == 1:
            return loads, cuts, orders
        steps = (steps + 1) // 2


def _cut_all(loads: LoadProblem, orders: Mapping[str, Units]) -> dict[str, ChainSplit]:
    cuts = ((name, split_order(loads, positions)) for name, positions in orders.items())
    return {name: cut for name, cut in cuts if cut is not None}


def _baselines(
    loads: LoadProblem, cuts: Mapping[str, ChainSplit], orders: Mapping[str, Units]
) -> dict[str, Units]:
    """What other tools do, and the best of the linear cuts."""
    fastest = int(loads.arrays.seconds.sum(axis=0).argmin())
    found = {
        **equal_cuts(loads, orders["depth first"]),
        "one device": np.full(loads.unit_count, fastest, np.int32),
    }
    if "as given" in cuts:
        found["balanced DP"] = cuts["as given"].devices
    if cuts:
        found["contiguous"] = min(cuts.values(), key=lambda cut: cut.seconds).devices
    return found


def _ideal_cut(loads: LoadProblem) -> dict[str, Units]:
    """The best of all contiguous splits, where devices are alike and its ideals can be listed."""
    seconds = loads.arrays.seconds
    cores, accelerators = np.flatnonzero(loads.sends == 0), np.flatnonzero(loads.sends)
    alike = all((seconds[:, kind] == seconds[:, kind[:1]]).all() for kind in (cores, accelerators))
    if not alike or loads.unit_count > _MOST_UNITS:
        return {}
    if loads.transfers == Transfers.CHANNELS and cores.size:
        return {}  # there cores pay for transfers
    try:
        split = best_contiguous_split(loads, _MOST_IDEALS)
    except InfeasibleError:
        return {}
    return {} if split is None else {"contiguous, exact": split.devices}


def _starts(loads: LoadProblem, found: Mapping[str, Units]) -> list[Units]:
    """Each placement once; those that cannot run are no starts where any can."""
    distinct = list({units.tobytes(): units for units in found.values()}.values())
    units = np.arange(loads.unit_count)
    runs = [item for item in distinct if np.isfinite(loads.arrays.seconds[units, item]).all()]
    return runs or [loads.arrays.seconds.argmin(axis=1).astype(np.int32)]


def _latency(problem: Problem, split: Split) -> float:
    if split.simulated is not None:
        return split.simulated.latency_seconds
    return problem.simulator.evaluate(pipeline_plan(problem, split)).makespan_seconds


def _in_flight(problem: Problem, split: Split, request: Throughput) -> int:
    if split.simulated is not None:
        return split.simulated.schedule.in_flight
    return default_in_flight(problem, split, request)


def _load(split: Split) -> float:
    return split.load_seconds


def _worth_telling(found: ReplicatedSplit | None, best: Split) -> ReplicatedSplit | None:
    """A replicated split that is faster than the best one without, by their loads."""
    if found is None or not found.replicates:
        return None
    return found if found.period_seconds < best.load_seconds * (1 - _WORTH_TELLING) else None
