"""What an agent sees: a graph on a cluster and, if a plan has run, what happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Int32

from envs.features.static_features import (
    DEVICE_FEATURES,
    EDGE_FEATURES,
    GRAPH_FEATURES,
    LINK_FEATURES,
    OP_FEATURES,
    PAIR_FEATURES,
    StaticFeatures,
    static_features,
)
from envs.features.trace_features import (
    DEVICE_TRACE_FEATURES,
    EDGE_TRACE_FEATURES,
    GRAPH_TRACE_FEATURES,
    LINK_TRACE_FEATURES,
    OP_TRACE_FEATURES,
    PAIR_TRACE_FEATURES,
    TraceFeatures,
    no_trace,
    trace_features,
)
from envs.instance import Instance
from envs.tasks import Task
from simulator.plan import Plan
from simulator.traces.trace import Trace

#: Names of all columns, in order; the second half of each is zero before a plan has run.
OP_COLUMNS = OP_FEATURES + OP_TRACE_FEATURES
EDGE_COLUMNS = EDGE_FEATURES + EDGE_TRACE_FEATURES
DEVICE_COLUMNS = DEVICE_FEATURES + DEVICE_TRACE_FEATURES
LINK_COLUMNS = LINK_FEATURES + LINK_TRACE_FEATURES
GRAPH_COLUMNS = GRAPH_FEATURES + GRAPH_TRACE_FEATURES
PAIR_COLUMNS = PAIR_FEATURES + PAIR_TRACE_FEATURES


@dataclass(frozen=True, eq=False)
class Observation:
    """Arrays of one size of columns whatever the graph and cluster; about -1 to 1 each."""

    kinds: Int32[np.ndarray, " ops"]
    """`OpKind` of each op."""
    ops: Float32[np.ndarray, "ops columns"]
    edge_ops: Int32[np.ndarray, "2 edges"]
    """Producer and consumer of each edge; ordered by producer, a pair may repeat."""
    edges: Float32[np.ndarray, "edges edge_columns"]
    units: Int32[np.ndarray, " ops"]
    """Ops of one unit share a device."""
    legal: Bool[np.ndarray, "ops devices"]
    """Devices that may and can run all ops of the op's unit."""
    pairs: Float32[np.ndarray, "ops devices pair_columns"]
    devices: Float32[np.ndarray, "devices device_columns"]
    links: Float32[np.ndarray, "devices devices link_columns"]
    """By source and target; zero on the diagonal."""
    graph: Float32[np.ndarray, " graph_columns"]
    """The graph and cluster as a whole."""
    previous: Int32[np.ndarray, "ops tasks"]
    """Device, schedule level and fusion level decided before; -1 where nothing was."""

    @property
    def op_count(self) -> int:
        return len(self.kinds)

    @property
    def device_count(self) -> int:
        return len(self.devices)


@dataclass(frozen=True, eq=False)
class Previous:
    """A plan that has run, as decided and as executed."""

    plan: Plan
    trace: Trace
    decided: Mapping[Task, Int32[np.ndarray, " ops"]] = field(default_factory=dict)
    """Choices of tasks that were decided; devices are the plan's."""


def observe(
    instance: Instance, previous: Previous | None = None, static: StaticFeatures | None = None
) -> Observation:
    """The observation of an instance, and of the plan that ran last.

    `static` saves the part that never changes from being computed again.
    """
    fixed = static if static is not None else static_features(instance)
    problem = instance.problem
    ops, devices = problem.graph.op_count, problem.cluster.device_count
    seen: TraceFeatures
    before = np.full((ops, len(Task)), -1, np.int32)
    if previous is None:
        seen = no_trace(ops, len(fixed.edges), devices)
    else:
        seen = trace_features(problem, previous.plan, previous.trace)
        decided = {**previous.decided, Task.PLACEMENT: previous.plan.devices}
        for column, task in enumerate(Task):
            if task in decided:
                before[:, column] = decided[task]
    return Observation(
        kinds=fixed.kinds,
        ops=np.concatenate([fixed.ops, seen.ops], axis=1),
        edge_ops=fixed.edge_ops,
        edges=np.concatenate([fixed.edges, seen.edges], axis=1),
        units=problem.unit_of,
        legal=fixed.legal,
        pairs=np.concatenate([fixed.pairs, seen.pairs], axis=2),
        devices=np.concatenate([fixed.devices, seen.devices], axis=1),
        links=np.concatenate([fixed.links, seen.links], axis=2),
        graph=np.concatenate([fixed.graph, seen.graph]),
        previous=before,
    )
