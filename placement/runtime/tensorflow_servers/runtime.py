"""Runs plans of a TensorFlow graph: one pinned server process per core, a device per node.

TensorFlow moves, removes and skips nodes unless told not to. Its rewriters are off, and after the
first step of each plan the step statistics must show that every op of the graph ran, where the plan
says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from jaxtyping import Float64

from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.kinds import FREE_KINDS
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock, Measurement
from placement.runtime.processes.messages import Message
from placement.runtime.processes.workers import WorkerFailure, WorkerPool, usable_cores
from placement.runtime.runtime import Runtime
from placement.runtime.samples import ACCEPTED_DELAY, Sampling
from placement.runtime.tensorflow_servers.graphs import placed_graph
from placement.runtime.tensorflow_servers.messages import (
    WORKER,
    CloseGraph,
    FindPort,
    OpenGraph,
    RanGraph,
    RunGraph,
    StartServer,
    TracedStep,
    TraceGraph,
)
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.plan import Plan

Answer = TypeVar("Answer")

_START_SECONDS = 60.0
_FEWEST_QUIET = 5
_ENVIRONMENT = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTEROP_THREADS": "4",
}


@dataclass
class TensorFlowRuntime(Runtime):
    """One GraphDef on one cluster of cores.

    Raises:
        RuntimeRefusal: devices that are no cores, more of them than there are, or servers that do
            not start.
    """

    path: Path
    graph: Graph
    cluster: Cluster
    costs: CostModel
    seed: int = 0
    sampling: Sampling = Sampling()
    kind: ClassVar[str] = "tf"
    _pool: WorkerPool = field(init=False)
    _addresses: tuple[str, ...] = ()
    _servers: tuple[int, ...] = ()
    _numbers: "count[int]" = field(default_factory=count)
    _reference: TracedStep | None = None

    def __post_init__(self) -> None:
        cores = usable_cores()
        if any(not device.kind.startswith("cpu") for device in self.cluster.devices):
            raise RuntimeRefusal(
                f"cluster {self.cluster.name!r} has devices that are no cores of this machine; "
                "`graphwright clusters probe` makes a cluster of those"
            )
        if self.cluster.device_count > len(cores):
            raise RuntimeRefusal(
                f"{self.cluster.device_count} devices for {len(cores)} cores: TensorFlow has no "
                "clock that could emulate them; use --runtime ort"
            )
        names = [*self.cluster.device_names, "the client"]
        pinned = [*cores[: self.cluster.device_count], -1]
        self._pool = WorkerPool(names, pinned, WORKER, _ENVIRONMENT)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Identifiers of the servers and the client, where they run."""
        return self._pool.process_ids

    def close(self) -> None:
        """End servers and client; what they held is free again."""
        self._pool.close()

    def profile(self, steps: int) -> Float64[np.ndarray, " ops"]:
        """Wall seconds of each kernel, the median of traced steps; they run one after the other.

        Raises:
            RuntimeRefusal: the graph cannot run here at all.
        """
        one = Plan.of(np.zeros(self.graph.op_count, np.int32))
        sampling = self.sampling
        try:
            number = self._open(one, sampling, check=False)
            traced = [self._trace(number, sampling) for _ in range(steps + 1)][1:]
            self._ask(CloseGraph(number), sampling.timeout_seconds)
        except WorkerFailure as error:
            self.close()
            raise RuntimeRefusal(f"{self.path}: cannot be profiled: {error}") from error
        names = self.graph.op_names
        rows = [[step.seconds.get(name, 0.0) for name in names] for step in traced]
        free = np.isin(self.graph.kinds, [int(kind) for kind in FREE_KINDS])
        return np.where(free, 0.0, np.median(np.array(rows, np.float64), axis=0))

    def measure(self, plans: Sequence[Plan], sampling: Sampling | None = None) -> list[Measurement]:
        """Measure plans in turns; a failure of one is its measurement's reason.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the graph cannot run here at all.
        """
        sampling = sampling or self.sampling
        for plan in plans:
            plan.check(self.graph, self.cluster)
        if self._reference is None:
            self._reference = self._first_reference(sampling)
        failures: dict[int, str] = {}
        opened: dict[int, int] = {}
        rounds: list[list[RanGraph]] = [[] for _ in plans]
        for turn in range(sampling.rounds):
            for index, plan in enumerate(plans):
                if index in failures:
                    continue
                try:
                    if index not in opened:
                        opened[index] = self._open(plan, sampling)
                    rounds[index].append(self._run(opened[index], sampling))
                except (WorkerFailure, GraphwrightError) as error:
                    failures[index] = f"{error} (round {turn + 1})"
                    self._pool.stop()  # sessions are gone with their client
                    self._addresses = ()
                    opened.clear()
        for number in opened.values():
            self._ask(CloseGraph(number), sampling.timeout_seconds)
        return [
            Measurement.failed(failures[index], Clock.WALL)
            if index in failures
            else _measured(ran, sampling.warm_up)
            for index, ran in enumerate(rounds)
        ]

    @property
    def _client(self) -> int:
        return self.cluster.device_count

    def _ask(self, message: Message[Answer], timeout: float) -> Answer:
        return self._pool.ask({self._client: message}, timeout)[self._client]

    def _start(self) -> None:
        """Start all servers on ports that they find free."""
        devices = range(self.cluster.device_count)
        ports = self._pool.ask(dict.fromkeys(devices, FindPort()), _START_SECONDS)
        self._addresses = tuple(f"127.0.0.1:{ports[device]}" for device in devices)
        starts = {device: StartServer(self._addresses, device) for device in devices}
        self._pool.ask(starts, _START_SECONDS)
        self._servers = self._pool.process_ids[: self.cluster.device_count]

    def _first_reference(self, sampling: Sampling) -> TracedStep:
        """The results of the graph on one device, which every plan has to give."""
        one = Plan.of(np.zeros(self.graph.op_count, np.int32))
        try:
            number = self._open(one, sampling, check=False)
            step = self._trace(number, sampling)
            self._ask(CloseGraph(number), sampling.timeout_seconds)
        except WorkerFailure as error:
            self.close()
            raise RuntimeRefusal(f"{self.path}: cannot run on TensorFlow: {error}") from error
        return step

    def _open(self, plan: Plan, sampling: Sampling, *, check: bool = True) -> int:
        if not self._addresses:
            self._start()
        targets = {
            name: f"/job:worker/replica:0/task:{task}/device:CPU:0"
            for task, name in enumerate(self.cluster.device_names)
        }
        placed = placed_graph(self.path, self.graph, self.cluster, plan, self.costs, targets)
        number = next(self._numbers)
        message = OpenGraph(
            number, self._addresses[0], placed.definition, placed.fetches, self.seed
        )
        self._ask(message, sampling.load_seconds)
        if check:
            step = self._trace(number, sampling)
            assert self._reference is not None
            reason = find_misplaced(placed.expected, step.devices) or different(
                step, self._reference
            )
            if reason is not None:
                raise WorkerFailure(reason)
        return number

    def _trace(self, number: int, sampling: Sampling) -> TracedStep:
        timeout = sampling.timeout_seconds
        return self._ask(TraceGraph(number, timeout), timeout + sampling.load_seconds)

    def _run(self, number: int, sampling: Sampling) -> RanGraph:
        total = sampling.warm_up + sampling.iterations
        timeout = sampling.timeout_seconds
        message = RunGraph(number, total, timeout, self._servers)
        return self._ask(message, timeout * total + 5.0)


def open_tensorflow(
    model: Path,
    graph: Graph,
    cluster: Cluster,
    *,
    dims: Mapping[str, int] | None = None,
    costs: CostModel | None = None,
    seed: int = 0,
    sampling: Sampling = Sampling(),
) -> TensorFlowRuntime:
    """A runtime of one GraphDef on one cluster of cores.

    Args:
        model: the file that `graph` was imported from.
        graph: of the model.
        cluster: cores of this machine, no more than there are.
        dims: not needed; a GraphDef's sizes are its own.
        costs: the cluster's own where none are given.
        seed: of inputs and variables.
        sampling: how to measure where nothing else is said.

    Raises:
        RuntimeRefusal: devices that are no cores, or more of them than there are.
    """
    cost_model = costs or default_costs(graph, cluster)
    return TensorFlowRuntime(model, graph, cluster, cost_model, seed, sampling)


def find_misplaced(expected: Mapping[str, str], devices: Mapping[str, str]) -> str | None:
    """What did not run, or ran elsewhere than planned; None where all is well."""
    missing = [name for name in expected if name not in devices]
    if missing:
        return f"{len(missing)} of {len(expected)} ops did not run, such as {missing[0]!r}"
    moved = [name for name, device in expected.items() if devices[name] not in (device, "")]
    if moved:
        name = moved[0]
        return f"{len(moved)} ops ran elsewhere, such as {name!r} on {devices[name]}"
    return None


def different(step: TracedStep, reference: TracedStep) -> str | None:
    """Which result is not that of the unplaced graph."""
    for name, wanted in reference.results.items():
        value = step.results.get(name)
        if value is None or not np.allclose(value, wanted, 1e-3, 1e-5, equal_nan=True):
            return f"result {name!r} is {value}, and {wanted} without placement"
    return None


def _measured(rounds: Sequence[RanGraph], warm_up: int) -> Measurement:
    wall = np.concatenate([ran.wall[warm_up:] for ran in rounds])
    delay = np.concatenate([ran.delay[warm_up:] for ran in rounds])
    quiet = delay <= ACCEPTED_DELAY * wall
    clock = Clock.WALL
    if quiet.sum() < min(_FEWEST_QUIET, len(wall)):
        clock = Clock.DISTURBED
        quiet = delay / wall <= np.quantile(delay / wall, 0.25)
    owner = np.repeat(np.arange(len(rounds)), [len(ran.wall) - warm_up for ran in rounds])
    kept = sorted(set(owner[quiet].tolist()))
    return Measurement(
        wall[quiet],
        clock,
        rounds=np.array([np.median(wall[quiet & (owner == number)]) for number in kept]),
        rejected=int((~quiet).sum()),
        checked=True,
    )
