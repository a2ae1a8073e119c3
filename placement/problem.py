"""What every placer is given: a graph, a cluster, constraints and costs, worked out once."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int32

from graphs.graph import Graph
from placement.constraints import Constraints
from simulator.bounds import LowerBounds, lower_bounds
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.errors import InfeasibleError
from simulator.evaluation import Evaluation
from simulator.plan import Plan
from simulator.simulator import Simulator

#: A step time above the lower bound by this share is as good as at it.
_AT_BOUND = 1e-3


@dataclass(frozen=True, eq=False)
class Problem:
    """One placement problem.

    A *unit* is what must share a device: a colocation group of the graph or of the constraints,
    or a single op. Placers decide per unit.

    Raises:
        ConstraintError: constraints that match nothing or contradict each other.
        InfeasibleError: a unit that no device may run.
    """

    graph: Graph
    given_cluster: Cluster
    constraints: Constraints = field(default_factory=Constraints)
    given_costs: CostModel | None = None
    known_plans: tuple[Plan, ...] = ()
    """Plans to begin from, beside those of the heuristics."""

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster within the memory caps."""
        return self.constraints.capped(self.given_cluster)

    @cached_property
    def costs(self) -> CostModel:
        return self.given_costs or default_costs(self.graph, self.given_cluster)

    @cached_property
    def simulator(self) -> Simulator:
        return Simulator(self.graph, self.cluster, self.costs)

    @cached_property
    def seconds(self) -> Float64[np.ndarray, "ops devices"]:
        """Compute seconds; infinite where an op cannot or must not run."""
        allowed = self.unit_allowed[self.unit_of]
        return np.where(allowed, self.simulator.seconds, np.inf)

    @cached_property
    def unit_of(self) -> Int32[np.ndarray, " ops"]:
        """The unit of each op, numbered by first appearance."""
        return _units(self.graph, self.constraints)

    @cached_property
    def unit_count(self) -> int:
        return int(self.unit_of.max()) + 1

    @cached_property
    def first_of_unit(self) -> Int32[np.ndarray, " units"]:
        """The lowest op of each unit."""
        _, first = np.unique(self.unit_of, return_index=True)
        return first.astype(np.int32)

    @cached_property
    def unit_allowed(self) -> Bool[np.ndarray, "units devices"]:
        """Devices that may and can run every op of a unit."""
        allowed = self.constraints.allowed(self.graph, self.cluster)
        allowed &= np.isfinite(self.simulator.seconds)
        refused = np.zeros((self.unit_count, self.cluster.device_count), np.int64)
        np.add.at(refused, self.unit_of, (~allowed).astype(np.int64))
        result = refused == 0
        stuck = np.flatnonzero(~result.any(axis=1))
        if stuck.size:
            members = np.flatnonzero(self.unit_of == stuck[0])
            names = ", ".join(repr(self.graph.op_names[op]) for op in members[:3])
            raise InfeasibleError(
                f"no device may run {names}{' ...' if len(members) > 3 else ''}: pins, forbidden "
                "devices and unsupported kinds of a colocation group leave none"
            )
        return result

    @cached_property
    def bounds(self) -> LowerBounds:
        return lower_bounds(self.graph, self.cluster, self.seconds)

    def leaves_nothing(self, evaluation: Evaluation) -> bool:
        """Whether a plan is at the lower bound, so that no search can gain a thousandth."""
        return evaluation.feasible and evaluation.makespan_seconds <= self.least_seconds

    @property
    def least_seconds(self) -> float:
        """A step time this short is as good as at the lower bound."""
        return self.bounds.seconds * (1.0 + _AT_BOUND)

    def evaluate(self, plan: Plan) -> Evaluation:
        """The simulator's score, after checking that the plan breaks no constraint."""
        self.constraints.check(self.graph, self.cluster, plan)
        return self.simulator.evaluate(plan)


def _units(graph: Graph, constraints: Constraints) -> Int32[np.ndarray, " ops"]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties: list[np.ndarray] = []
    grouped = np.flatnonzero(graph.colocation >= 0)
    if grouped.size:
        order = grouped[np.argsort(graph.colocation[grouped], kind="stable")]
        starts = np.flatnonzero(np.diff(graph.colocation[order])) + 1
        ties.extend(np.split(order, starts))
    ties.extend(constraints.groups(graph))
    sources = np.concatenate([np.full(len(tie), tie[0]) for tie in ties] or [np.zeros(0, int)])
    targets = np.concatenate([*ties] or [np.zeros(0, int)])
    edges = coo_array(
        (np.ones(len(sources), np.int8), (sources, targets)), shape=(graph.op_count,) * 2
    )
    _, labels = connected_components(edges, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse].astype(np.int32)
