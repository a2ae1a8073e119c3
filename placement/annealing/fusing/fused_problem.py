"""A problem of kernels in place of ops, and the way back.

Kernels are those of XLA's instruction fusion (`simulator.fusion`) under a placement, or given ones.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int32

from graphs.graph import Graph
from placement.constraints import Constraints
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import kernel_costs
from simulator.errors import PlanError
from simulator.fusion import fuse, xla_like_groups
from simulator.plan import Plan


@dataclass(frozen=True)
class KernelCosts:
    """Seconds of each kernel, worked out once from the costs of the problem that was fused.

    Kernels are not fused again: a placer that decides fusion cannot place them.
    """

    name: str
    kernel_seconds: Float64[np.ndarray, "kernels devices"]

    def seconds(self, graph: Graph, cluster: Cluster) -> Float64[np.ndarray, "kernels devices"]:
        """Seconds of the kernels of the one graph that was fused.

        Raises:
            PlanError: another graph, as one whose kernels were fused again.
        """
        if self.kernel_seconds.shape != (graph.op_count, cluster.device_count):
            raise PlanError(
                "kernels cannot be fused again: leave --fuse out for a policy that decides fusion "
                "itself, or take another placer"
            )
        return self.kernel_seconds


@dataclass(frozen=True, eq=False)
class FusedProblem:
    """A problem whose ops are kernels, and the way back."""

    problem: Problem
    """The one that was fused."""
    kernels: Problem
    fusion: Int32[np.ndarray, " ops"]
    kernel_of: Int32[np.ndarray, " ops"]

    def plan(self, of_kernels: Plan) -> Plan:
        """The plan of the original graph that runs the same kernels."""
        return Plan.of(
            of_kernels.devices[self.kernel_of], of_kernels.priorities[self.kernel_of], self.fusion
        )


def fuse_problem(
    problem: Problem, given: Plan, fusion: Int32[np.ndarray, " ops"] | None = None
) -> FusedProblem:
    """Fuse all that may be one kernel under a plan's devices; the kernels' problem knows the plan.

    Ops of a kernel share a device, and so do the units that they belong to.

    Args:
        fusion: groups to fuse instead.

    Raises:
        PlanError: a group that cannot be one kernel.
    """
    graph = problem.graph
    if fusion is None:
        fusion = xla_like_groups(graph, given.devices)
    fused = fuse(graph, fusion, given.devices)
    seconds = kernel_costs(problem.costs, graph, fused, problem.given_cluster)
    refused = np.zeros(seconds.shape, bool)
    np.logical_or.at(refused, fused.kernel_of, np.isinf(problem.seconds))
    costs = KernelCosts(problem.costs.name, np.where(refused, np.inf, seconds))
    kernels = replace(fused.graph, colocation=_colocation(problem, fused.kernel_of))
    urgency = np.full(len(fused.root_of), -np.inf)
    np.maximum.at(urgency, fused.kernel_of, given.priorities)
    known = Plan.of(given.devices[fused.root_of], urgency)
    return FusedProblem(
        problem,
        Problem(kernels, problem.cluster, Constraints(), costs, (known,)),
        fusion,
        fused.kernel_of,
    )


def _colocation(problem: Problem, kernel_of: Int32[np.ndarray, " ops"]) -> Int32[np.ndarray, " k"]:
    """Kernels that hold ops of one unit share a group; -1 where a kernel is alone."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kernels, units = int(kernel_of.max()) + 1, problem.unit_count
    ties = coo_array(
        (np.ones(len(kernel_of), np.int8), (kernel_of, kernels + problem.unit_of)),
        shape=(kernels + units, kernels + units),
    )
    _, labels = connected_components(ties, directed=False)
    mine = labels[:kernels]
    shared = np.bincount(mine)[mine] > 1
    return np.where(shared, mine, -1).astype(np.int32)
