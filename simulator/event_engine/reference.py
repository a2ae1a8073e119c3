"""The event engine in plain Python: slow, short, and the oracle for the compiled kernel.

Written from the semantics in `docs/architecture.md`, not from the kernel; tests require equal
results to the last bit.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import HostCosts, runs_alone
from simulator.plan import NO_HOLDS


@dataclass(frozen=True)
class ReferenceResult:
    """Makespan in seconds, peak bytes per device, and start and end of each op."""

    makespan: float
    peak_bytes: tuple[int, ...]
    op_start: dict[int, float]
    op_end: dict[int, float]
    transfers: tuple[tuple[int, int, float, float], ...]
    """(tensor, destination, start, arrival) in the order of request."""


class _Run:
    """One simulation; all state is on the instance."""

    def __init__(
        self,
        graph: Graph,
        cluster: Cluster,
        seconds: np.ndarray,
        devices: list[int],
        ranks: list[int],
        holds: dict[int, int],
    ) -> None:
        self.graph = graph
        self.seconds = seconds
        self.device_of = devices
        self.rank_of = ranks
        self.links = {(link.source, link.target): link for link in cluster.links}
        self.names = cluster.device_names
        self.events: list[tuple[float, int, int, str]] = []
        self.ready: list[list[tuple[int, int]]] = [[] for _ in self.names]
        self.channel_free: dict[str, float] = {}
        self.inputs = {op: self._waiting_inputs(op) for op in range(graph.op_count)}
        self.missing = {op: len(tensors) for op, tensors in self.inputs.items()}
        self.held: dict[int, list[int]] = {}
        for op, after in holds.items():
            self.held.setdefault(after, []).append(op)
            self.missing[op] += 1
        self.users: dict[tuple[int, int], int] = {}
        self.memory = [0] * len(self.names)
        self.allocations: list[tuple[int, int]] = []
        self.transfers: list[tuple[int, int, float, float]] = []
        self.hosts = [device.host for device in cluster.devices]
        self.running: list[int | None] = [None] * len(self.names)
        self.run_of_device = [0] * len(self.names)
        self.begins_run = [True] * len(self.names)
        self.made_in: dict[int, int] = {}
        """The run that made a tensor, where it has not left that run."""
        self.taken_in: dict[tuple[int, int], int] = {}
        """The last run of a device that took in a tensor, or received it."""
        self.alone = runs_alone(graph)
        self.start: dict[int, float] = {}
        self.end: dict[int, float] = {}

    def _waiting_inputs(self, op: int) -> list[int]:
        tensors = [int(tensor) for tensor in self.graph.inputs_of(op)]
        return [t for t in tensors if self.graph.tensor_storage[t] != Storage.WEIGHT]

    def readers(self, tensor: int, device: int) -> list[int]:
        consumers = [int(op) for op in self.graph.consumers_of(tensor)]
        return [op for op in consumers if self.device_of[op] == device]

    def home(self, tensor: int) -> int:
        return self.device_of[int(self.graph.tensor_producers[tensor])]

    def charge(self, tensor: int, device: int) -> int:
        """Bytes that a copy of a tensor occupies on a device."""
        storage = self.graph.tensor_storage[tensor]
        size = int(self.graph.tensor_bytes[tensor])
        if device == self.home(tensor):
            return size if storage == Storage.BUFFER else 0
        return 0 if storage == Storage.UNCOUNTED else size

    def resident(self) -> None:
        for op in range(self.graph.op_count):
            self.memory[self.device_of[op]] += int(self.graph.resident_bytes[op])
        for tensor in np.flatnonzero(self.graph.tensor_storage == Storage.WEIGHT):
            readers = {self.device_of[int(op)] for op in self.graph.consumers_of(int(tensor))}
            for device in readers:
                self.memory[device] += int(self.graph.tensor_bytes[tensor])

    def allocate(self, op: int) -> None:
        device = self.device_of[op]
        self.memory[device] += int(self.graph.workspace_bytes[op])
        for tensor in self.outputs(op):
            self.memory[device] += self.charge(tensor, device)

    def outputs(self, op: int) -> list[int]:
        tensors = list(self.graph.outputs_of(op))
        return [t for t in tensors if self.graph.tensor_storage[t] != Storage.WEIGHT]

    def make_ready(self, op: int, now: float) -> None:
        device = self.device_of[op]
        if self.seconds[op, device] == 0 and not self.crosses(op):
            self.start[op] = now
            self.allocate(op)
            heapq.heappush(self.events, (now, self.rank_of[op], op, "end"))
        else:
            heapq.heappush(self.ready[device], (self.rank_of[op], op))

    def crosses(self, op: int) -> bool:
        """Whether a device with host costs receives or sends something for the op."""
        device = self.device_of[op]
        others = [self.home(tensor) for tensor in self.inputs[op]]
        for tensor in self.outputs(op):
            others += [self.device_of[int(reader)] for reader in self.graph.consumers_of(tensor)]
        return self.hosts[device] is not None and any(other != device for other in others)

    def receiving(self, op: int) -> float:
        """What the op's device spends on copying in what it does not hold yet."""
        device = self.device_of[op]
        host = self.hosts[device]
        total = 0.0
        for tensor in self.inputs[op]:
            source = self.home(tensor)
            if host is not None and source != device and (tensor, device) not in self.taken_in:
                link = self.links[self.names[source], self.names[device]]
                pace = 1.0 / link.bytes_per_second
                total += host.receive_seconds + int(self.graph.tensor_bytes[tensor]) * pace
        return total

    def sending(self, op: int) -> float:
        """What the op's device spends on copying its outputs to others."""
        device = self.device_of[op]
        host = self.hosts[device]
        total = 0.0
        for tensor in self.outputs(op):
            readers = [self.device_of[int(reader)] for reader in self.graph.consumers_of(tensor)]
            for target in dict.fromkeys(readers):
                if host is not None and target != device:
                    size = int(self.graph.tensor_bytes[tensor])
                    total += host.send_seconds + size * host.send_seconds_per_byte
        return total

    def host_seconds(self, op: int) -> float:
        """How long an op occupies its device, with all that the device does for it."""
        device = self.device_of[op]
        host = self.hosts[device] or HostCosts()
        kernel = float(self.seconds[op, device])
        total = self.receiving(op)
        if kernel == 0.0:
            for tensor in self.inputs[op]:
                if tensor not in self.made_in:
                    self.taken_in.setdefault((tensor, device), self.run_of_device[device])
            return total + self.sending(op)
        if total > 0.0 or self.begins_run[device] or self.alone[op]:
            self.run_of_device[device] += 1
            total += host.launch_seconds
        run = self.run_of_device[device]
        self.begins_run[device] = bool(self.alone[op])
        others = [at for at, held in enumerate(self.running) if at != device and held is not None]
        if others:
            share = len(others) / (len(self.names) - 1)
            kernel += kernel * host.contention * share
        total += host.op_seconds + self.taking_in(op, run, host)
        total += kernel
        total += self.making(op, run, host)
        return total + self.sending(op)

    def occupied(self, op: int) -> float:
        if any(self.hosts):
            return self.host_seconds(op)
        return float(self.seconds[op, self.device_of[op]])

    def taking_in(self, op: int, run: int, host: HostCosts) -> float:
        device = self.device_of[op]
        total = 0.0
        for tensor in self.inputs[op]:
            here = self.home(tensor) == device
            size = int(self.graph.tensor_bytes[tensor])
            if here and tensor in self.made_in:
                if self.made_in[tensor] == run:
                    continue
                del self.made_in[tensor]
                total += host.border_seconds + size * host.output_seconds_per_byte
            elif self.taken_in.get((tensor, device)) == run:
                continue
            total += host.border_seconds + size * host.input_seconds_per_byte
            self.taken_in[tensor, device] = run
        return total

    def making(self, op: int, run: int, host: HostCosts) -> float:
        device = self.device_of[op]
        total = 0.0
        for tensor in self.outputs(op):
            readers = [self.device_of[int(reader)] for reader in self.graph.consumers_of(tensor)]
            if any(reader != device for reader in readers):
                self.taken_in[tensor, device] = run
                self.begins_run[device] = True
                size = int(self.graph.tensor_bytes[tensor])
                total += host.border_seconds + size * host.output_seconds_per_byte
            else:
                self.made_in[tensor] = run
        return total

    def receive(self, op: int, now: float) -> None:
        self.missing[op] -= 1
        if self.missing[op] == 0:
            self.make_ready(op, now)

    def send(self, tensor: int, target: int, now: float) -> None:
        link = self.links[self.names[self.home(tensor)], self.names[target]]
        channels = link.channels or (f"{link.source}->{link.target}",)
        start = max([now, *(self.channel_free.get(channel, 0.0) for channel in channels)])
        copied = self.hosts[target] is not None  # by the receiver, in its own time
        size = int(self.graph.tensor_bytes[tensor])
        free = start if copied else start + size / link.bytes_per_second
        for channel in channels:
            self.channel_free[channel] = free
        arrival = free + link.latency_seconds
        number = len(self.transfers)
        self.transfers.append((tensor, target, start, arrival))
        order = len(self.rank_of) + 2 * number
        heapq.heappush(self.events, (start, order, number, "begin"))
        heapq.heappush(self.events, (arrival, order + 1, number, "arrival"))

    def drop(self, tensor: int, device: int) -> None:
        """One user of a copy fewer; the last one frees it, and then lets go of what it views."""
        self.users[tensor, device] -= 1
        if self.users[tensor, device] == 0:
            self.memory[device] -= self.charge(tensor, device)
            if device == self.home(tensor):
                self.let_go(tensor, device)

    def let_go(self, tensor: int, device: int) -> None:
        viewed = self.viewed(tensor)
        if viewed is not None:
            self.drop(viewed, device)

    def viewed(self, tensor: int) -> int | None:
        viewed = int(self.graph.tensor_alias_of[tensor])
        if viewed < 0 or self.graph.tensor_storage[viewed] == Storage.WEIGHT:
            return None
        return viewed

    def finish(self, op: int, now: float) -> None:
        device = self.device_of[op]
        self.end[op] = now
        if self.running[device] == op:
            self.running[device] = None
        self.memory[device] -= int(self.graph.workspace_bytes[op])
        for tensor in self.outputs(op):
            consumers = [int(reader) for reader in self.graph.consumers_of(tensor)]
            targets = list(dict.fromkeys(self.device_of[reader] for reader in consumers))
            for target in targets:
                self.users[tensor, target] = len(self.readers(tensor, target))
            remote = len([target for target in targets if target != device])
            self.users[tensor, device] = self.users.get((tensor, device), 0) + remote
            viewed = self.viewed(tensor)
            if self.users[tensor, device] == 0:
                self.memory[device] -= self.charge(tensor, device)
            elif viewed is not None:
                self.users[viewed, device] += 1
            sent: set[int] = set()
            for reader in consumers:
                target = self.device_of[reader]
                if target == device:
                    self.receive(reader, now)
                elif target not in sent:
                    sent.add(target)
                    self.send(tensor, target, now)
        for tensor in self.inputs[op]:
            self.drop(tensor, device)
        for held in sorted(self.held.get(op, [])):
            self.receive(held, now)

    def take_buffers(self, starting: list[int]) -> None:
        for number in starting:
            tensor, target, _, _ = self.transfers[number]
            self.memory[target] += self.charge(tensor, target)

    def run(self) -> ReferenceResult:
        self.resident()
        peak = list(self.memory)
        for op, count in self.missing.items():
            if count == 0:
                self.make_ready(op, 0.0)
        now = 0.0
        while True:
            starting: list[int] = []
            while self.events and self.events[0][0] == now:
                _, _, index, what = heapq.heappop(self.events)
                if what == "end":
                    self.finish(index, now)
                elif what == "begin":
                    starting.append(index)
                else:
                    tensor, target, _, _ = self.transfers[index]
                    for reader in self.readers(tensor, target):
                        self.receive(reader, now)
                    self.drop(tensor, self.home(tensor))
            self.take_buffers(starting)
            begun: list[tuple[int, int]] = []
            for device, queue in enumerate(self.ready):
                if queue and self.running[device] is None:
                    rank, op = heapq.heappop(queue)
                    self.running[device] = op
                    self.start[op] = now
                    self.allocate(op)
                    begun.append((rank, op))
                peak[device] = max(peak[device], self.memory[device])
            for rank, op in begun:
                taken = self.occupied(op)
                heapq.heappush(self.events, (now + taken, rank, op, "end"))
            if not self.events:
                return ReferenceResult(
                    now, tuple(peak), self.start, self.end, tuple(self.transfers)
                )
            now = self.events[0][0]


def simulate_reference(
    graph: Graph,
    cluster: Cluster,
    seconds: np.ndarray,
    devices: np.ndarray,
    ranks: np.ndarray,
    holds: np.ndarray = NO_HOLDS,
) -> ReferenceResult:
    """Execute an unfused plan in plain Python; `ranks` is a permutation, 0 the most urgent."""
    held = {op: after for op, after in enumerate(holds.tolist()) if after >= 0}
    return _Run(graph, cluster, seconds, devices.tolist(), ranks.tolist(), held).run()
