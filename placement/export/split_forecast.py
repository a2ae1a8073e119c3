"""What a plan takes as a split ONNX model: sessions in a row on each device, tensors by the host.

The exported form is another machine than the one that places are simulated on: a part starts when
all that it reads is there, and gives what it makes when all of it is done; a tensor leaves a
device for the host and goes from there to the next.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int32, Int64

from graphs.kinds import OpKind, Storage
from placement.problem import Problem
from placement.simplicity.complexity import Complexity, complexity_of
from simulator.clusters.device_specs import PCIE
from simulator.evaluation import Evaluation
from simulator.plan import Plan

#: Starting a session from Python and waking the thread that waits for its results: 23 us on two
#: cores of a server by `benchmarks/speed/session_overhead.py`. Sessions on GPUs were not measured.
SESSION_SECONDS = 25e-6
_HOST = "cpu"
#: Ops that are no nodes of a model: its inputs, outputs and weights.
_NO_NODES = (OpKind.INPUT, OpKind.OUTPUT, OpKind.CONSTANT, OpKind.VARIABLE, OpKind.CONTROL)


@dataclass(frozen=True, eq=False)
class SplitForecast:
    """A plan as parts: each on one device, each run once, in order."""

    part_of: Int32[np.ndarray, " ops"]
    devices: Int32[np.ndarray, " parts"]
    stages: Int32[np.ndarray, " parts"]
    start: Float64[np.ndarray, " parts"]
    end: Float64[np.ndarray, " parts"]
    copied_bytes: Int64[np.ndarray, " parts"]
    """What goes to or from the host for each part, where its device is not the host itself."""

    @property
    def part_count(self) -> int:
        return len(self.devices)

    @property
    def makespan_seconds(self) -> float:
        """When the last part has ended."""
        return float(self.end.max())

    @property
    def period_seconds(self) -> float:
        """Between the ends of steps that overlap: what the busiest device's parts take together."""
        return float(np.bincount(self.devices, self.end - self.start).max())


def op_stages(problem: Problem, plan: Plan) -> Int32[np.ndarray, " ops"]:
    """How often the longest chain that leads to each op changes devices."""
    arrays = problem.simulator.program.arrays
    kept = problem.graph.tensor_storage[problem.simulator.program.graph_tensors] != Storage.CONTROL
    sources = arrays.tensor_producers[arrays.edge_tensors]
    order = np.argsort(arrays.consumers, kind="stable")
    order = order[kept[arrays.edge_tensors[order]]]
    crossing = (plan.devices[sources] != plan.devices[arrays.consumers]).tolist()
    stages = [0] * len(plan.devices)
    producers, consumers = sources.tolist(), arrays.consumers.tolist()
    for edge in order.tolist():
        stage = stages[producers[edge]] + crossing[edge]
        stages[consumers[edge]] = max(stages[consumers[edge]], stage)
    return np.array(stages, np.int32)


def forecast_split(problem: Problem, plan: Plan) -> SplitForecast:
    """Cut a plan as the exporter does, and run its parts in order.

    What ops take comes from the problem's costs. A device that is no CPU copies what its parts read
    and make over PCI Express, in their own time.
    """
    graph, cluster = problem.graph, problem.given_cluster
    ops = np.arange(graph.op_count)
    stages = op_stages(problem, plan)
    real = ~np.isin(graph.kinds, [int(kind) for kind in _NO_NODES])
    keys = stages.astype(np.int64) * cluster.device_count + plan.devices
    found, part_of = np.unique(keys, return_inverse=True)
    count = len(found)
    devices = (found % cluster.device_count).astype(np.int32)
    compute = np.bincount(part_of, problem.simulator.seconds[ops, plan.devices], count)
    busy = np.bincount(part_of, real, count) > 0
    edges = _border_edges(problem, part_of)
    made, read = edges[:, 0], edges[:, 1]
    size = graph.tensor_bytes[edges[:, 2]]
    moved = np.bincount(read, size, count)
    first = np.unique(edges[:, [0, 2]], axis=0)
    moved += np.bincount(first[:, 0], graph.tensor_bytes[first[:, 1]], count)
    paces = np.array([_seconds_per_byte(device.kind) for device in cluster.devices])
    latencies = np.array([_copy_seconds(device.kind) for device in cluster.devices])
    copies = np.bincount(read, minlength=count) + np.bincount(first[:, 0], minlength=count)
    taken = compute + busy * SESSION_SECONDS
    taken += moved * paces[devices] + copies * latencies[devices]
    start, end = np.zeros(count), np.zeros(count)
    waits: list[list[int]] = [[] for _ in range(count)]
    for source, target in zip(made.tolist(), read.tolist(), strict=True):
        waits[target].append(source)
    free = np.zeros(cluster.device_count)
    for part in range(count):  # by stage: what a part waits for comes before it
        device = devices[part]
        start[part] = max([free[device], *(end[source] for source in waits[part])])
        end[part] = start[part] + taken[part]
        free[device] = end[part]
    copied = np.where(paces[devices] > 0, moved, 0).astype(np.int64)
    kept = busy
    numbers = np.cumsum(kept) - 1
    return SplitForecast(
        np.where(kept[part_of], numbers[part_of], -1).astype(np.int32),
        devices[kept],
        (found // cluster.device_count).astype(np.int32)[kept],
        start[kept],
        end[kept],
        copied[kept],
    )


def _border_edges(
    problem: Problem, part_of: Int64[np.ndarray, " ops"]
) -> Int64[np.ndarray, "edges 3"]:
    """Producing part, reading part and tensor, each once; weights lie in the parts themselves."""
    graph = problem.graph
    edges = graph.edge_tensors
    sources, targets = part_of[graph.tensor_producers[edges]], part_of[graph.consumers]
    storage = graph.tensor_storage[edges]
    sent = (sources != targets) & (storage != Storage.WEIGHT) & (storage != Storage.CONTROL)
    return np.unique(np.stack([sources[sent], targets[sent], edges[sent]], axis=1), axis=0).astype(
        np.int64
    )


def _seconds_per_byte(kind: str) -> float:
    """Between a device and the host; nothing for devices that compute in the host's memory."""
    if kind.startswith(_HOST):
        return 0.0
    return 1.0 / PCIE.get(kind, PCIE["a100"]).bytes_per_second


def _copy_seconds(kind: str) -> float:
    if kind.startswith(_HOST):
        return 0.0
    return PCIE.get(kind, PCIE["a100"]).latency_seconds


@dataclass(frozen=True)
class SplitJudge:
    """Plans as split models: few parts, and what they take."""

    problem: Problem

    def evaluate(self, plan: Plan) -> Evaluation:
        simulated = self.problem.evaluate(plan)
        return replace(
            simulated, makespan_seconds=forecast_split(self.problem, plan).makespan_seconds
        )

    def complexity(self, plan: Plan) -> Complexity:
        simulated = complexity_of(self.problem.graph, plan.devices)
        return replace(simulated, parts=forecast_split(self.problem, plan).part_count)
