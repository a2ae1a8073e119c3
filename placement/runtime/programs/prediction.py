"""Predicts how long a device program takes, from measured kernels and overheads.

The event engine counts the same costs op by op, so that searches see them. Here its order is cut
into the program that would be run, sends begin one by one, a tensor's way out of a run is counted
where the run ends, and kernels are slowed down by what the other devices do all the while.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from placement.runtime.programs.device_program import (
    DeviceProgram,
    Run,
    Send,
    Step,
    TensorUse,
    cut_program,
)
from placement.runtime.programs.program_order import program_order
from placement.runtime.programs.replay import Timeline, replay
from simulator.clusters.host_costs import HostCosts, runs_alone
from simulator.costs.cost_model import kernel_costs
from simulator.evaluation import Evaluation
from simulator.fusion import fuse
from simulator.plan import Plan
from simulator.simulator import Simulator

_NO_STEP = (OpKind.INPUT, OpKind.CONSTANT, OpKind.VARIABLE)
#: Shapes are known beforehand: what these make is a constant of the program.
_KNOWN_BEFOREHAND = ("Shape", "Size")
#: How often the overlap of devices is worked out anew.
_PASSES = 3


class Border(NamedTuple):
    """What crosses the border of a run: it lies in buffers of its own, not in the session's."""

    tensors: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, eq=False)
class ProgramPredictor:
    """An `Evaluator` for clusters of cores that were calibrated."""

    simulator: Simulator

    def evaluate(self, plan: Plan) -> Evaluation:
        """Step time of the device program; memory as the simulator counts it."""
        simulated = self.simulator.evaluate(plan)
        if not np.isfinite(simulated.makespan_seconds):
            return simulated
        seconds = self.predict(self.program(plan), plan).seconds
        return replace(simulated, makespan_seconds=seconds)

    def program(self, plan: Plan) -> DeviceProgram:
        """The steps of each device, from the graph alone."""
        graph = self.simulator.graph
        order = program_order(self.simulator, plan)
        given = {
            f"t{tensor}": int(plan.devices[op])
            for op in np.flatnonzero(graph.kinds == OpKind.INPUT).tolist()
            for tensor in graph.outputs_of(op)
        }
        count = self.simulator.cluster.device_count
        alone = sharing_ops(self.simulator.graph)
        groups = fusion_groups(plan)
        return cut_program(
            order, plan.devices, self._works, count, given, alone=alone, groups=groups
        )

    def predict(self, program: DeviceProgram, plan: Plan) -> Timeline:
        """When each step begins and ends."""
        plain, slowed = self.seconds(program, plan)
        latency = self.latency_seconds
        line = replay(program, plain, latency)
        for _ in range(passes(slowed)):
            stretched = [
                base + extra * share
                for base, extra, share in zip(plain, slowed, overlap(line), strict=True)
            ]
            line = replay(program, stretched, latency)
        return line

    def seconds(
        self, program: DeviceProgram, plan: Plan
    ) -> tuple[list[Float64[np.ndarray, " _"]], list[Float64[np.ndarray, " _"]]]:
        """How long each step keeps its device busy, and what comes on top while all others are."""
        fused = self._fused_seconds(plan)
        plain = [
            np.array([self._step_seconds(program, at, step, plan, fused) for step in steps])
            for at, steps in enumerate(program.steps)
        ]
        slowed = [
            host.contention * np.array([self._kernel_seconds(step, plan, fused) for step in steps])
            for steps, host in zip(program.steps, self._hosts, strict=True)
        ]
        return plain, slowed

    @property
    def latency_seconds(self) -> Float64[np.ndarray, "devices devices"]:
        """From the end of a send to when its receive may begin."""
        return self.simulator.cluster.link_arrays.wire_latency_seconds

    @cached_property
    def _hosts(self) -> list[HostCosts]:
        return [device.host or HostCosts() for device in self.simulator.cluster.devices]

    @cached_property
    def _works(self) -> list[TensorUse | None]:
        return graph_works(self.simulator.graph)

    @cached_property
    def _bytes(self) -> list[int]:
        return self.simulator.graph.tensor_bytes.tolist()

    def _fused_seconds(self, plan: Plan) -> dict[int, float]:
        """Seconds of each fused kernel by its last op; no group is slower than its ops apart."""
        if not plan.is_fused:
            return {}
        graph, cluster = self.simulator.graph, self.simulator.cluster
        fused = fuse(graph, plan.fusion, plan.devices)
        seconds = kernel_costs(self.simulator.costs, graph, fused, cluster)
        return {
            root: float(seconds[kernel, plan.devices[root]])
            for kernel, root in enumerate(fused.root_of.tolist())
            if plan.fusion[root] >= 0
        }

    def _kernel_seconds(self, step: Step, plan: Plan, fused: Mapping[int, float]) -> float:
        if not isinstance(step, Run):
            return 0.0
        ops = list(step.ops)
        apart = float(self.simulator.seconds[ops, plan.devices[ops]].sum())
        if step.fused:
            return min(apart, fused.get(max(ops), apart))
        return apart

    def _step_seconds(
        self,
        program: DeviceProgram,
        device: int,
        step: Step,
        plan: Plan,
        fused: Mapping[int, float],
    ) -> float:
        host = self._hosts[device]
        if isinstance(step, Run):
            border = border_of(step, self._works, self._readers, self._bytes)
            return self._kernel_seconds(step, plan, fused) + (
                host.launch_seconds
                + len(step.ops) * host.op_seconds
                + border.tensors * host.border_seconds
                + border.bytes_in * host.input_seconds_per_byte
                + border.bytes_out * host.output_seconds_per_byte
            )
        transfer = program.transfers[step.transfer]
        size = self._bytes[int(transfer.tensor[1:])]
        if isinstance(step, Send):
            return host.send_seconds + size * host.send_seconds_per_byte
        pace = self.simulator.cluster.link_arrays.receive_seconds_per_byte
        return host.receive_seconds + size * float(pace[transfer.source, device])

    @cached_property
    def _readers(self) -> dict[str, set[int]]:
        return readers_of(self._works)


def graph_works(graph: Graph) -> list[TensorUse | None]:
    """What each op reads and writes; tensor `i` of the graph is `t<i>`."""
    moving = ~np.isin(graph.tensor_storage, (Storage.CONTROL, Storage.WEIGHT))
    works: list[TensorUse | None] = []
    for op in range(graph.op_count):
        known = graph.kinds[op] == OpKind.SHAPE and graph.op_types[op] in _KNOWN_BEFOREHAND
        if known or graph.kinds[op] in _NO_STEP:
            works.append(None)
            continue
        reads = tuple(f"t{t}" for t in graph.inputs_of(op).tolist() if moving[t])
        writes = tuple(f"t{t}" for t in graph.outputs_of(op) if moving[t])
        works.append(TensorUse(reads, writes))
    return works


def fusion_groups(plan: Plan) -> dict[int, int]:
    """The group of each op that has one."""
    return {op: int(plan.fusion[op]) for op in np.flatnonzero(plan.fusion >= 0).tolist()}


def sharing_ops(graph: Graph) -> frozenset[int]:
    """Ops that run in sessions of their own, see `runs_alone`."""
    return frozenset(np.flatnonzero(runs_alone(graph)).tolist())


def readers_of(works: Sequence[TensorUse | None]) -> dict[str, set[int]]:
    """Ops that read each tensor."""
    readers: dict[str, set[int]] = {}
    for op, work in enumerate(works):
        for name in work.reads if work is not None else ():
            readers.setdefault(name, set()).add(op)
    return readers


def border_of(
    run: Run,
    works: Sequence[TensorUse | None],
    readers: Mapping[str, set[int]],
    sizes: Sequence[int],
) -> Border:
    """What crosses the border of a run; `sizes` are bytes of the graph's tensors."""
    inside = set(run.ops)
    uses = [works[op] for op in run.ops]
    written = {name for work in uses if work is not None for name in work.writes}
    taken = {name for work in uses if work is not None for name in work.reads} - written
    given = {name for name in written if not readers.get(name, set()) <= inside}
    return Border(
        len(taken) + len(given),
        sum(sizes[int(name[1:])] for name in taken),
        sum(sizes[int(name[1:])] for name in given),
    )


def passes(slowed: Sequence[Float64[np.ndarray, " _"]]) -> int:
    """How often to work out anew how devices slow each other down."""
    return _PASSES if any(extra.any() for extra in slowed) else 0


def overlap(line: Timeline) -> list[Float64[np.ndarray, " _"]]:
    """For each step the mean share of the other devices that are busy while it runs."""
    count = len(line.begin)
    shares = []
    for device in range(count):
        begin, end = line.begin[device], line.end[device]
        total = np.zeros(len(begin))
        for other in range(count):
            if other != device:
                done = _busy_before(line, other, end) - _busy_before(line, other, begin)
                total += done / np.maximum(end - begin, 1e-12)
        shares.append(np.clip(total / max(count - 1, 1), 0.0, 1.0))
    return shares


def _busy_before(line: Timeline, device: int, instants: np.ndarray) -> np.ndarray:
    """Seconds that a device has worked before each instant; its steps are in order."""
    begin, end = line.begin[device], line.end[device]
    if not len(begin):
        return np.zeros(len(instants))
    done = np.concatenate([[0.0], np.cumsum(end - begin)])
    at = np.searchsorted(begin, instants, side="right")
    running = np.clip(end[at - 1] - instants, 0.0, None)
    return np.where(at > 0, done[at] - running, 0.0)
