"""Plans to calibrate and to be judged by: from sensible to chatty, all drawn from a seed."""

import numpy as np

from placement.placer import Budget, silent
from placement.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import Plan


def trial_plans(problem: Problem, count: int, seed: int) -> dict[str, Plan]:
    """Named plans of a problem.

    The first is everything on one device, the second the best of all heuristics. The rest cut the
    graph's order into runs on devices that take turns, and move a share of the units at random:
    step times span a factor of two and more.
    """
    graph, cluster = problem.graph, problem.cluster
    best = portfolio(problem, Budget(10.0), seed, silent).best.plan
    named = {"one device": Plan.of(np.zeros(graph.op_count, np.int32)), "portfolio": best}
    random = np.random.default_rng(seed)
    first = np.unique(problem.unit_of, return_index=True)[1]
    while len(named) < count:
        number = len(named)
        pieces = int(random.integers(1, 2 + 2 * cluster.device_count)) if number % 3 else 1
        moved = float(random.choice([0.0, 0.02, 0.1, 0.3]))
        cuts = np.sort(random.integers(0, graph.op_count, pieces))
        base = np.searchsorted(cuts, np.arange(graph.op_count), side="right")
        if number % 3 == 0:
            base = best.devices.copy()
        devices = (base + random.integers(cluster.device_count)) % cluster.device_count
        per_unit = devices[first]
        drawn = random.random(len(first)) < moved
        per_unit[drawn] = random.integers(0, cluster.device_count, int(drawn.sum()))
        devices = per_unit[problem.unit_of].astype(np.int32)
        plan = Plan.of(devices, upward_ranks(problem, devices) if number % 2 else None)
        named[f"plan {number} ({pieces} cuts, {moved:.0%} moved)"] = plan
    return named
