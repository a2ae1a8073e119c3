"""The plain engine's view of a graph, a plan and a schedule: what does not change while it runs.

An op of a step is a *task*, a pair of the step's row and the op; updates, which run once, have the
row after the last step's.
"""

import numpy as np

from graphs.graph import Graph
from graphs.kinds import Phase, Storage
from simulator.clusters.cluster import Cluster
from simulator.steps import StepOrder, StepSchedule

#: The row of a step and an op of the graph, or a tensor of it.
Task = tuple[int, int]


class Tasks:
    """Which tasks there are, in which order, who reads what, and what it takes and holds."""

    def __init__(
        self,
        graph: Graph,
        cluster: Cluster,
        seconds: np.ndarray,
        devices: list[int],
        ranks: list[int],
        schedule: StepSchedule,
    ) -> None:
        self.graph = graph
        self.cluster = cluster
        self.seconds = seconds
        self.schedule = schedule
        self.device_of = devices
        self.rank_of = ranks
        self.hosts = [device.host for device in cluster.devices]
        self.inputs = {op: self._waiting_inputs(op) for op in range(graph.op_count)}
        self.phase_of = self._phases()
        self.once = Phase.UPDATE in self.phase_of
        self.ops_of_step = [op for op in range(graph.op_count) if not self.is_once(op)]
        self.window = self._windows()

    def _waiting_inputs(self, op: int) -> list[int]:
        tensors = [int(tensor) for tensor in self.graph.inputs_of(op)]
        return [t for t in tensors if self.graph.tensor_storage[t] != Storage.WEIGHT]

    def _phases(self) -> list[int]:
        """A phase for each op, no earlier than that of what it depends on."""
        phases: list[int] = []
        for op in range(self.graph.op_count):
            producers = [int(self.graph.tensor_producers[tensor]) for tensor in self.inputs[op]]
            phases.append(max([int(self.graph.phases[op]), *(phases[p] for p in producers)]))
        return phases

    def _windows(self) -> dict[int, int]:
        """Steps that may be begun and not finished on each device, with 1F1B."""
        places: dict[int, list[int]] = {}
        for op in self.ops_of_step:
            if self.phase_of[op] == Phase.FORWARD:
                places.setdefault(self.device_of[op], []).append(op)
        order = sorted(sorted(places), key=lambda device: sum(places[device]) / len(places[device]))
        return {device: len(order) - stage for stage, device in enumerate(order)}

    def is_once(self, op: int) -> bool:
        """Whether an op runs once for all steps."""
        return self.phase_of[op] == Phase.UPDATE

    def key(self, task: Task) -> int:
        """Where a task stands in the order of its device."""
        row, op = task
        ops = self.graph.op_count
        rows = self.schedule.steps + self.once
        late = {
            StepOrder.OLDEST_FIRST: False,
            StepOrder.GPIPE: self.phase_of[op] != Phase.FORWARD,
            StepOrder.ONE_F_ONE_B: self.phase_of[op] != Phase.BACKWARD,
        }[self.schedule.order]
        return late * rows * ops + row * ops + self.rank_of[op]

    @property
    def first_transfer_key(self) -> int:
        return 2 * (self.schedule.steps + self.once) * self.graph.op_count

    def readers(self, task: Task, device: int) -> list[int]:
        """Ops on a device that read a tensor in a row."""
        return [op for op in self.all_readers(task) if self.device_of[op] == device]

    def all_readers(self, task: Task) -> list[int]:
        row, tensor = task
        consumers = [int(op) for op in self.graph.consumers_of(tensor)]
        return [op for op in consumers if self.is_once(op) == (row == self.schedule.steps)]

    def home(self, tensor: int) -> int:
        return self.device_of[int(self.graph.tensor_producers[tensor])]

    def is_sum(self, task: Task) -> bool:
        """Whether a tensor of the updates is the sum of what all steps made."""
        row, tensor = task
        return row == self.schedule.steps and not self.is_once(
            int(self.graph.tensor_producers[tensor])
        )

    def charge(self, task: Task, device: int) -> int:
        """Bytes that a copy of a tensor occupies on a device."""
        _, tensor = task
        storage = self.graph.tensor_storage[tensor]
        size = int(self.graph.tensor_bytes[tensor])
        if self.is_sum(task) and device == self.home(tensor):
            return size if storage in (Storage.BUFFER, Storage.ALIAS) else 0
        if device == self.home(tensor):
            return size if storage == Storage.BUFFER else 0
        return 0 if storage == Storage.UNCOUNTED else size

    def outputs(self, op: int) -> list[int]:
        tensors = list(self.graph.outputs_of(op))
        return [t for t in tensors if self.graph.tensor_storage[t] != Storage.WEIGHT]

    def kernel_seconds(self, task: Task) -> float:
        """What an op takes; after the first step it adds its gradients to the sums."""
        row, op = task
        device = self.device_of[op]
        taken = float(self.seconds[op, device])
        sums = [
            tensor
            for tensor in self.outputs(op)
            if self.phase_of[op] == Phase.BACKWARD
            and any(self.is_once(int(reader)) for reader in self.graph.consumers_of(tensor))
            and self.graph.tensor_storage[tensor] in (Storage.BUFFER, Storage.ALIAS)
            and self.graph.tensor_bytes[tensor] > 0
        ]
        if row == 0 or not sums or not self.once:
            return taken
        size = sum(int(self.graph.tensor_bytes[tensor]) for tensor in sums)
        costs = self.cluster.devices[device]
        return taken + (3 * size / costs.memory_bytes_per_second + len(sums) * costs.launch_seconds)

    def crosses(self, op: int) -> bool:
        """Whether a device with host costs receives or sends something for the op."""
        device = self.device_of[op]
        others = [self.home(tensor) for tensor in self.inputs[op]]
        for tensor in self.outputs(op):
            others += [self.device_of[int(reader)] for reader in self.graph.consumers_of(tensor)]
        return self.hosts[device] is not None and any(other != device for other in others)

    def viewed(self, tensor: int) -> int | None:
        viewed = int(self.graph.tensor_alias_of[tensor])
        if viewed < 0 or self.graph.tensor_storage[viewed] == Storage.WEIGHT:
            return None
        return viewed
