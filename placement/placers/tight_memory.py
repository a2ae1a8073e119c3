"""How little memory per device a graph can do with, as far as the portfolio's plans tell."""

from collections.abc import Sequence
from dataclasses import replace

from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.problem import Problem
from simulator.clusters.cluster import Cluster


def least_peak_bytes(problem: Problem, seed: int = 0) -> int:
    """The smallest peak of the fullest device among all plans that the portfolio compares."""
    placed = portfolio(problem, Budget(0.0), seed, silent)
    return min(max(item.evaluation.peak_bytes) for item in placed.candidates)


def tighten_memory(problem: Problem, factor: float, seed: int = 0) -> Cluster:
    """The problem's cluster with `factor` times that memory on every device."""
    cluster = problem.given_cluster
    memory = int(factor * least_peak_bytes(problem, seed))
    return tightened(cluster, [memory] * cluster.device_count, factor)


def tightened(cluster: Cluster, memory_bytes: Sequence[int], factor: float) -> Cluster:
    """A cluster with the memory that a rule came to.

    Args:
        cluster: as it is without the rule.
        memory_bytes: of each device.
        factor: of the rule, for the name.
    """
    devices = tuple(
        replace(device, memory_bytes=memory)
        for device, memory in zip(cluster.devices, memory_bytes, strict=True)
    )
    return replace(cluster, devices=devices, name=f"{cluster.name}-tight{factor:g}")
