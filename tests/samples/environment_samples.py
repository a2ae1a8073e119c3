"""Instances and evaluators for tests of environments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from graph_samples import graph_of, op, toy_cluster

from envs.instance import Instance
from graphs.graph import Graph
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.evaluation import BatchEvaluation, Evaluation
from simulator.plan import Plan
from simulator.traces.trace import Trace


def two_chains() -> Graph:
    """Two chains of two ops of a second each, their ends joined by an op of a second.

    On one device it takes 5 s, on two 3 s where sending is free.
    """
    return graph_of(
        op("a0", 1.0),
        op("a1", 1.0, ("a0",)),
        op("b0", 1.0),
        op("b1", 1.0, ("b0",)),
        op("join", 1.0, ("a1", "b1")),
    )


def two_chains_instance(cluster: Cluster | None = None) -> Instance:
    """The two chains on two equal devices."""
    return Instance("two-chains", Problem(two_chains(), cluster or toy_cluster(2)))


@dataclass(frozen=True, eq=False)
class FixedEvaluator:
    """Not a simulator: a plan takes as many seconds as devices it uses, and 100 more."""

    problem: Problem
    refuses: bool = False
    """Whether every plan fails."""

    def evaluate(self, plan: Plan) -> Evaluation:
        seconds = 100.0 + len(np.unique(plan.devices))
        peaks = (0,) * self.problem.cluster.device_count
        if self.refuses:
            return Evaluation(np.inf, peaks, "the worker died", source="measured")
        return Evaluation(seconds, peaks, source="measured")

    def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
        scores = [self.evaluate(plan) for plan in plans]
        return BatchEvaluation(
            np.array([score.makespan_seconds for score in scores]),
            np.array([score.peak_bytes for score in scores], np.int64),
            np.array([score.feasible for score in scores], bool),
        )

    def trace(self, plan: Plan) -> Trace:
        return self.problem.simulator.trace(plan)
