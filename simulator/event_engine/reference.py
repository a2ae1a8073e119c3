"""The event engine in plain Python: slow, short, and the oracle for the compiled kernel.

Written from the semantics in `docs/architecture.md`, not from the kernel; tests require equal
results to the last bit.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from graphs.graph import Graph
from graphs.kinds import Phase, Storage
from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import HostCosts, runs_alone
from simulator.event_engine.tasks import Task, Tasks
from simulator.plan import NO_HOLDS
from simulator.steps import StepOrder, StepSchedule


@dataclass(frozen=True)
class ReferenceResult:
    """Makespan in seconds, peak bytes per device, and start and end of each task."""

    makespan: float
    peak_bytes: tuple[int, ...]
    start: dict[Task, float]
    end: dict[Task, float]
    transfers: tuple[tuple[int, int, int, float, float], ...]
    """(row, tensor, destination, start, arrival) in the order of request."""
    released: dict[int, float]
    """When each row was let in."""
    ended: dict[int, float]
    busy: tuple[float, ...]
    """Seconds for which each device was occupied."""


class _Run(Tasks):
    """One simulation; all state is on the instance."""

    def __init__(
        self,
        graph: Graph,
        cluster: Cluster,
        seconds: np.ndarray,
        devices: list[int],
        ranks: list[int],
        holds: dict[int, int],
        schedule: StepSchedule,
    ) -> None:
        super().__init__(graph, cluster, seconds, devices, ranks, schedule)
        self.links = {(link.source, link.target): link for link in cluster.links}
        self.names = cluster.device_names
        self.events: list[tuple[float, int, Task, str]] = []
        self.ready: list[list[tuple[int, Task]]] = [[] for _ in self.names]
        self.channel_free: dict[str, float] = {}
        self.missing: dict[Task, int] = {}
        self.held: dict[int, list[int]] = {}
        for op, after in holds.items():
            self.held.setdefault(after, []).append(op)
        self.holds = holds
        self.users: dict[tuple[Task, int], int] = {}
        self.memory = [0] * len(self.names)
        self.transfers: list[tuple[int, int, int, float, float]] = []
        self.running: list[Task | None] = [None] * len(self.names)
        self.run_of_device = [0] * len(self.names)
        self.begins_run = [True] * len(self.names)
        self.made_in: dict[Task, int] = {}
        """The run that made a tensor, where it has not left that run."""
        self.taken_in: dict[tuple[Task, int], int] = {}
        """The last run of a device that took in a tensor, or received it."""
        self.alone = runs_alone(graph)
        self.start: dict[Task, float] = {}
        self.end: dict[Task, float] = {}
        self.busy = [0.0] * len(self.names)
        self.left: dict[int, int] = {}
        """Tasks left of each row that was let in."""
        self.left_here: dict[tuple[int, int], int] = {}
        """Tasks left of each row on each device."""
        self.finished_here = [0] * len(self.names)
        self.forward_left = [0] * len(self.names)
        for op in self.ops_of_step:
            if self.phase_of[op] == Phase.FORWARD:
                self.forward_left[self.device_of[op]] += schedule.steps
        self.copies_made: dict[int, int] = {}
        self.released: dict[int, float] = {}
        self.ended: dict[int, float] = {}

    def resident(self) -> None:
        for op in range(self.graph.op_count):
            self.memory[self.device_of[op]] += int(self.graph.resident_bytes[op])
        for tensor in np.flatnonzero(self.graph.tensor_storage == Storage.WEIGHT):
            readers = {self.device_of[int(op)] for op in self.graph.consumers_of(int(tensor))}
            for device in readers:
                self.memory[device] += int(self.graph.tensor_bytes[tensor])

    def allocate(self, task: Task) -> None:
        row, op = task
        device = self.device_of[op]
        self.memory[device] += int(self.graph.workspace_bytes[op])
        for tensor in self.outputs(op):
            self.memory[device] += self.charge((row, tensor), device)

    def make_ready(self, task: Task, now: float) -> None:
        _, op = task
        device = self.device_of[op]
        if self.kernel_seconds(task) == 0 and not self.crosses(op):
            self.start[task] = now
            self.allocate(task)
            heapq.heappush(self.events, (now, self.key(task), task, "end"))
        else:
            heapq.heappush(self.ready[device], (self.key(task), task))

    def receiving(self, task: Task) -> float:
        """What the op's device spends on copying in what it does not hold yet."""
        row, op = task
        device = self.device_of[op]
        host = self.hosts[device]
        total = 0.0
        for tensor in self.inputs[op]:
            source = self.home(tensor)
            known = ((row, tensor), device) in self.taken_in
            if host is not None and source != device and not known:
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

    def host_seconds(self, task: Task) -> float:
        """How long an op occupies its device, with all that the device does for it."""
        row, op = task
        device = self.device_of[op]
        host = self.hosts[device] or HostCosts()
        kernel = self.kernel_seconds(task)
        total = self.receiving(task)
        if kernel == 0.0:
            for tensor in self.inputs[op]:
                if (row, tensor) not in self.made_in:
                    self.taken_in.setdefault(((row, tensor), device), self.run_of_device[device])
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
        total += host.op_seconds + self.taking_in(task, run, host)
        total += kernel
        total += self.making(task, run, host)
        return total + self.sending(op)

    def occupied(self, task: Task) -> float:
        return self.host_seconds(task) if any(self.hosts) else self.kernel_seconds(task)

    def taking_in(self, task: Task, run: int, host: HostCosts) -> float:
        row, op = task
        device = self.device_of[op]
        total = 0.0
        for tensor in self.inputs[op]:
            here = self.home(tensor) == device
            size = int(self.graph.tensor_bytes[tensor])
            of_row = (row, tensor)
            if here and of_row in self.made_in:
                if self.made_in[of_row] == run:
                    continue
                del self.made_in[of_row]
                total += host.border_seconds + size * host.output_seconds_per_byte
            elif self.taken_in.get((of_row, device)) == run:
                continue
            total += host.border_seconds + size * host.input_seconds_per_byte
            self.taken_in[of_row, device] = run
        return total

    def making(self, task: Task, run: int, host: HostCosts) -> float:
        row, op = task
        device = self.device_of[op]
        total = 0.0
        for tensor in self.outputs(op):
            readers = [self.device_of[int(reader)] for reader in self.graph.consumers_of(tensor)]
            if any(reader != device for reader in readers):
                self.taken_in[(row, tensor), device] = run
                self.begins_run[device] = True
                size = int(self.graph.tensor_bytes[tensor])
                total += host.border_seconds + size * host.output_seconds_per_byte
            else:
                self.made_in[row, tensor] = run
        return total

    def let_in(self, row: int, now: float) -> None:
        """Begin a step, or the updates."""
        once = row == self.schedule.steps
        ops = [op for op in range(self.graph.op_count) if self.is_once(op) == once]
        self.released[row] = now
        self.left[row] = len(ops)
        for op in ops:
            device = self.device_of[op]
            self.left_here[row, device] = self.left_here.get((row, device), 0) + 1
            self.missing[row, op] = len(self.inputs[op]) + (op in self.holds)
        for op in ops:
            if self.missing[row, op] == 0:
                self.make_ready((row, op), now)

    def let_in_next(self, now: float) -> None:
        """Steps come in their order, each when the one that many before has ended."""
        begun = len([row for row in self.released if row < self.schedule.steps])
        while begun < self.schedule.steps:
            before = begun - self.schedule.in_flight
            if before >= 0 and before not in self.ended:
                return
            self.let_in(begun, now)
            begun += 1

    def may_start(self, task: Task) -> bool:
        """Whether the order of steps lets the first of the ready tasks of a device start."""
        row, op = task
        device = self.device_of[op]
        phase = self.phase_of[op]
        if self.schedule.order == StepOrder.ONE_F_ONE_B and phase == Phase.FORWARD:
            return row < self.finished_here[device] + self.window[device]
        if self.schedule.order == StepOrder.GPIPE and phase == Phase.BACKWARD:
            return self.forward_left[device] == 0
        return True

    def receive(self, task: Task, now: float) -> None:
        self.missing[task] -= 1
        if self.missing[task] == 0:
            self.make_ready(task, now)

    def send(self, of_row: Task, target: int, now: float) -> None:
        row, tensor = of_row
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
        self.transfers.append((row, tensor, target, start, arrival))
        order = self.first_transfer_key + 2 * number
        heapq.heappush(self.events, (start, order, (row, number), "begin"))
        heapq.heappush(self.events, (arrival, order + 1, (row, number), "arrival"))

    def drop(self, of_row: Task, device: int) -> None:
        """One user of a copy fewer; the last one frees it, and then lets go of what it views."""
        row, tensor = of_row
        self.users[of_row, device] -= 1
        if self.users[of_row, device] == 0:
            self.memory[device] -= self.charge(of_row, device)
            viewed = self.viewed(tensor)
            if device == self.home(tensor) and viewed is not None and not self.is_sum(of_row):
                self.drop((row, viewed), device)

    def finish(self, task: Task, now: float) -> None:
        row, op = task
        device = self.device_of[op]
        self.end[task] = now
        if self.running[device] == task:
            self.running[device] = None
        self.memory[device] -= int(self.graph.workspace_bytes[op])
        for tensor in self.outputs(op):
            self.hand_out((row, tensor), now)
            viewed = self.viewed(tensor)
            if self.users[(row, tensor), device] == 0:
                self.memory[device] -= self.charge((row, tensor), device)
            elif viewed is not None:
                self.users[(row, viewed), device] += 1
            once = self.schedule.steps
            if row < once and self.all_readers((once, tensor)):
                made = self.copies_made.get(tensor, 0) + 1
                self.copies_made[tensor] = made
                if made == 1:
                    self.memory[device] += self.charge((once, tensor), device)
                if made == self.schedule.steps:
                    self.hand_out((once, tensor), now)
        for tensor in self.inputs[op]:
            self.drop((row, tensor), device)
        for held in sorted(self.held.get(op, [])):
            self.receive((row, held), now)
        self.count_finished(task, now)

    def hand_out(self, of_row: Task, now: float) -> None:
        """Give a tensor to those that read it in a row."""
        row, tensor = of_row
        device = self.home(tensor)
        consumers = self.all_readers(of_row)
        targets = list(dict.fromkeys(self.device_of[reader] for reader in consumers))
        for target in targets:
            self.users[of_row, target] = len(self.readers(of_row, target))
        remote = len([target for target in targets if target != device])
        self.users[of_row, device] = self.users.get((of_row, device), 0) + remote
        sent: set[int] = set()
        for reader in consumers:
            target = self.device_of[reader]
            if target == device:
                self.receive((row, reader), now)
            elif target not in sent:
                sent.add(target)
                self.send(of_row, target, now)

    def count_finished(self, task: Task, now: float) -> None:
        """What an op's end means for its step, and for the order of steps on its device."""
        row, op = task
        device = self.device_of[op]
        self.left[row] -= 1
        self.left_here[row, device] -= 1
        if row < self.schedule.steps:
            self.finished_here[device] += self.left_here[row, device] == 0
            self.forward_left[device] -= self.phase_of[op] == Phase.FORWARD
        if self.left[row] == 0:
            self.ended[row] = now
            self.let_in_next(now)

    def take_buffers(self, starting: list[int]) -> None:
        for number in starting:
            row, tensor, target, _, _ = self.transfers[number]
            self.memory[target] += self.charge((row, tensor), target)

    def run(self) -> ReferenceResult:
        self.resident()
        peak = list(self.memory)
        self.let_in_next(0.0)
        if self.once:
            self.let_in(self.schedule.steps, 0.0)
        now = 0.0
        while True:
            starting: list[int] = []
            while self.events and self.events[0][0] == now:
                _, _, (row, index), what = heapq.heappop(self.events)
                if what == "end":
                    self.finish((row, index), now)
                elif what == "begin":
                    starting.append(index)
                else:
                    _, tensor, target, _, _ = self.transfers[index]
                    for reader in self.readers((row, tensor), target):
                        self.receive((row, reader), now)
                    self.drop((row, tensor), self.home(tensor))
            self.take_buffers(starting)
            begun: list[tuple[int, Task]] = []
            for device, queue in enumerate(self.ready):
                if queue and self.running[device] is None and self.may_start(queue[0][1]):
                    key, task = heapq.heappop(queue)
                    self.running[device] = task
                    self.start[task] = now
                    self.allocate(task)
                    begun.append((key, task))
                peak[device] = max(peak[device], self.memory[device])
            for key, task in begun:
                taken = self.occupied(task)
                self.busy[self.device_of[task[1]]] += taken
                heapq.heappush(self.events, (now + taken, key, task, "end"))
            if not self.events:
                return ReferenceResult(
                    now,
                    tuple(peak),
                    self.start,
                    self.end,
                    tuple(self.transfers),
                    self.released,
                    self.ended,
                    tuple(self.busy),
                )
            now = self.events[0][0]


def simulate_reference(
    graph: Graph,
    cluster: Cluster,
    seconds: np.ndarray,
    devices: np.ndarray,
    ranks: np.ndarray,
    holds: np.ndarray = NO_HOLDS,
    schedule: StepSchedule | None = None,
) -> ReferenceResult:
    """Execute an unfused plan in plain Python.

    Args:
        ranks: a permutation, 0 the most urgent.
        schedule: of steps that overlap; where none is given the whole graph runs once.
    """
    held = {op: after for op, after in enumerate(holds.tolist()) if after >= 0}
    if schedule is None:
        return _WholeStep(
            graph, cluster, seconds, devices.tolist(), ranks.tolist(), held, StepSchedule(1, 1)
        ).run()
    return _Run(graph, cluster, seconds, devices.tolist(), ranks.tolist(), held, schedule).run()


class _WholeStep(_Run):
    """One step, its updates included."""

    def _phases(self) -> list[int]:
        return [int(Phase.FORWARD)] * self.graph.op_count
