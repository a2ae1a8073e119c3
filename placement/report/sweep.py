"""One graph on many clusters: how many devices, and which links, are worth having."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphs.graph import Graph
from placement.constraints import Constraints
from placement.place import Placement, place_problem
from placement.placer import Placer
from placement.problem import Problem
from simulator.clusters.cluster import Cluster


@dataclass(frozen=True, eq=False)
class SweepPoint:
    """The best plan found for one cluster."""

    cluster: Cluster
    placement: Placement
    cost: float
    """Device-seconds of a step; where prices are given, money for a thousand steps."""

    @property
    def seconds(self) -> float:
        return self.placement.trace.makespan_seconds

    @property
    def used_devices(self) -> int:
        """Devices that compute anything."""
        return int((self.placement.trace.busy_seconds > 0).sum())


def sweep(
    graph: Graph,
    clusters: Sequence[Cluster],
    placer: Placer,
    name: str,
    budget_seconds: float,
    seed: int,
    prices: Mapping[str, float] | None = None,
    done: Callable[[int], None] = lambda _count: None,
) -> list[SweepPoint]:
    """Place a graph on each cluster with the same placer, budget and seed.

    Args:
        prices: per device kind and hour; kinds without a price cost nothing. None: a step costs
            its devices' seconds, used or not.
        done: told the number of clusters that are done.
    """
    points = []
    for cluster in clusters:
        problem = Problem(graph, cluster, Constraints())
        placement = place_problem(problem, placer, name, budget_seconds, seed)
        rate = float(cluster.device_count)
        if prices is not None:
            rate = sum(prices.get(device.kind, 0.0) for device in cluster.devices) / 3.6
        points.append(SweepPoint(cluster, placement, placement.trace.makespan_seconds * rate))
        done(len(points))
    return points


def efficient(points: Sequence[SweepPoint]) -> list[bool]:
    """Whether a point fits, and no other is faster or cheaper and no worse in either."""
    fits = [point.placement.feasible for point in points]

    def beaten(one: SweepPoint) -> bool:
        return any(
            good
            and other.seconds <= one.seconds
            and other.cost <= one.cost
            and (other.seconds, other.cost) != (one.seconds, one.cost)
            for other, good in zip(points, fits, strict=True)
        )

    return [good and not beaten(point) for point, good in zip(points, fits, strict=True)]
