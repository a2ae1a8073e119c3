"""Runs plans through the compiled event engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from jaxtyping import Int32, Int64

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel, Seconds, kernel_costs
from simulator.costs.registry import default_costs
from simulator.errors import OrderError, PlanError
from simulator.evaluation import BatchEvaluation, Evaluation, OutOfMemory
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.overlap import Overlap, overlap_steps
from simulator.event_engine.program import Program, make_program
from simulator.event_engine.state import (
    NO_RECORDING,
    EngineState,
    Recording,
    check_recording,
    make_engine_state,
    make_recording,
)
from simulator.fusion import FusedGraph, fuse
from simulator.kernel_checks import check_plan
from simulator.plan import Plan, priority_ranks
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation
from simulator.threads import pool_of, thread_count
from simulator.traces.steps_trace import StepsTrace, make_steps_trace
from simulator.traces.trace import Trace, make_trace


@dataclass(frozen=True, eq=False)
class Simulator:
    """Scores plans of one graph on one cluster; nothing in it changes but a cache."""

    graph: Graph
    cluster: Cluster
    costs: CostModel

    @staticmethod
    def of(graph: Graph, cluster: Cluster) -> "Simulator":
        """A simulator with profiled costs if the graph has them, else with the roofline."""
        return Simulator(graph, cluster, default_costs(graph, cluster))

    @cached_property
    def seconds(self) -> Seconds:
        """Compute seconds of each unfused op on each device."""
        values = self.costs.seconds(self.graph, self.cluster)
        values.setflags(write=False)
        return values

    @cached_property
    def program(self) -> Program:
        """The unfused graph as the kernel's arrays."""
        return make_program(self.graph, self.cluster, self.seconds)

    def evaluate(self, plan: Plan) -> Evaluation:
        """Makespan, peak memory and, if memory does not suffice, the device that it fails on.

        `trace(plan).evaluation` says besides when, and what filled it.
        """
        plan.check(self.graph, self.cluster)
        program, devices, ranks = self._lower(plan)
        peak = np.zeros(self.cluster.device_count, np.int64)
        makespan, _ = _run(program, devices, ranks, peak, NO_RECORDING, plan.holds)
        if not np.isfinite(makespan):
            return Evaluation(makespan, tuple(map(int, peak)), self._unsupported(plan))
        return Evaluation(
            makespan,
            tuple(map(int, peak)),
            self._overfilled(peak),
            int(np.maximum(peak - self.cluster.memory_bytes, 0).sum()),
            capacity_bytes=int(self.cluster.memory_bytes.sum()),
        )

    def trace(self, plan: Plan) -> Trace:
        """Everything that happens while the plan runs.

        Raises:
            PlanError: the plan does not fit the graph and cluster, or an op is on a device that
                cannot run it.
        """
        plan.check(self.graph, self.cluster)
        program, devices, ranks = self._lower(plan)
        peak = np.zeros(self.cluster.device_count, np.int64)
        recording = make_recording(len(devices), program.tensor_count, program.edge_count)
        makespan, state = _run(program, devices, ranks, peak, recording, plan.holds)
        if not np.isfinite(makespan):
            raise PlanError(self._unsupported(plan))
        return make_trace(program, devices, state.edge_copy, recording, makespan, peak, plan.holds)

    def evaluate_steps(self, plan: Plan, schedule: StepSchedule) -> StepsEvaluation:
        """Run several steps that overlap: when each begins and ends, peak memory, and what fails.

        Weights are held once, everything else once for each step on the way. Time and memory grow
        with the steps in flight, time besides with the steps.

        Raises:
            PlanError: the plan does not fit the graph and cluster.
            OrderError: its steps come to a stop in that order.
        """
        plan.check(self.graph, self.cluster)
        program, devices, ranks = self._lower(plan)
        peak = np.zeros(self.cluster.device_count, np.int64)
        overlap = overlap_steps(program, schedule, devices, plan.holds)
        makespan, _ = _run(program, devices, ranks, peak, NO_RECORDING, plan.holds, overlap)
        return self._steps_evaluation(plan, schedule, overlap, makespan, peak)

    def trace_steps(self, plan: Plan, schedule: StepSchedule) -> StepsTrace:
        """Everything that happens while several steps run.

        Raises:
            PlanError: as `evaluate_steps`, or an op is on a device that cannot run it.
        """
        plan.check(self.graph, self.cluster)
        program, devices, ranks = self._lower(plan)
        peak = np.zeros(self.cluster.device_count, np.int64)
        overlap = overlap_steps(program, schedule, devices, plan.holds)
        rows = len(overlap.end_seconds)
        recording = make_recording(len(devices), program.tensor_count, program.edge_count, rows)
        makespan, _ = _run(program, devices, ranks, peak, recording, plan.holds, overlap)
        if not np.isfinite(makespan):
            raise PlanError(self._unsupported(plan))
        evaluation = self._steps_evaluation(plan, schedule, overlap, makespan, peak)
        return make_steps_trace(program, devices, recording, evaluation)

    def _steps_evaluation(
        self,
        plan: Plan,
        schedule: StepSchedule,
        overlap: Overlap,
        makespan: float,
        peak: np.ndarray,
    ) -> StepsEvaluation:
        failure: OutOfMemory | str | None = self._overfilled(peak)
        if not np.isfinite(makespan):
            failure = self._unsupported(plan)
        elif not np.isfinite(overlap.end_seconds).all():
            raise OrderError(
                f"the order {schedule.order} came to a stop with this plan: ops of a later phase "
                f"wait for each other across devices; take {StepOrder.OLDEST_FIRST}"
            )
        return StepsEvaluation(
            schedule,
            overlap.release_seconds[: schedule.steps],
            overlap.end_seconds[: schedule.steps],
            float(makespan),
            tuple(map(float, overlap.busy_seconds)),
            tuple(map(int, peak)),
            failure,
            int(np.maximum(peak - self.cluster.memory_bytes, 0).sum()),
        )

    def _overfilled(self, peak: Int64[np.ndarray, " devices"]) -> OutOfMemory | None:
        excess = np.maximum(peak - self.cluster.memory_bytes, 0)
        if not excess.any():
            return None
        worst = self.cluster.devices[int(excess.argmax())]
        return OutOfMemory(worst.name, worst.memory_bytes, int(peak[excess.argmax()]))

    def evaluate_many(self, plans: Sequence[Plan], threads: int | None = None) -> BatchEvaluation:
        """Score many plans on `threads` threads, or `simulator.threads` many; order is kept."""
        peaks = np.zeros((len(plans), self.cluster.device_count), np.int64)
        makespans = np.zeros(len(plans))
        if plans:  # compile once and build shared arrays before threads ask for them
            plans[0].check(self.graph, self.cluster)
            self._lower(plans[0])

        def run(index: int) -> None:
            plans[index].check(self.graph, self.cluster)
            program, devices, ranks = self._lower(plans[index])
            makespans[index], _ = _run(
                program, devices, ranks, peaks[index], NO_RECORDING, plans[index].holds
            )

        count = threads or thread_count()
        if count == 1:
            for index in range(len(plans)):
                run(index)
        else:
            list(pool_of(count).map(run, range(len(plans))))
        fits = (peaks <= self.cluster.memory_bytes).all(axis=1)
        return BatchEvaluation(makespans, peaks, fits & np.isfinite(makespans))

    def _lower(self, plan: Plan) -> tuple[Program, np.ndarray, np.ndarray]:
        """Program, devices and ranks that the kernel runs for a plan."""
        if not plan.is_fused:
            return self.program, plan.devices, plan.ranks
        key = (plan.fusion.tobytes(), plan.devices.tobytes())
        program, fused = self._fusion_cache.get(key) or self._fuse(plan)
        self._fusion_cache.clear()
        self._fusion_cache[key] = (program, fused)
        priorities = np.full(len(fused.root_of), -np.inf)
        np.maximum.at(priorities, fused.kernel_of, plan.priorities)
        return program, plan.devices[fused.root_of], priority_ranks(priorities)

    def _fuse(self, plan: Plan) -> tuple[Program, FusedGraph]:
        fused = fuse(self.graph, plan.fusion, plan.devices)
        seconds = kernel_costs(self.costs, self.graph, fused, self.cluster)
        refused = np.zeros(seconds.shape, bool)  # a kernel hides the kinds of all members but one
        np.logical_or.at(refused, fused.kernel_of, np.isinf(self.seconds))
        seconds = np.where(refused, np.inf, seconds)
        alone = np.bincount(fused.kernel_of, minlength=len(fused.root_of)) > 1
        return make_program(fused.graph, self.cluster, seconds, alone), fused

    @cached_property
    def _fusion_cache(self) -> dict[tuple[bytes, bytes], tuple[Program, FusedGraph]]:
        """The fused program last used: plans that differ in priorities alone share it."""
        return {}

    def _unsupported(self, plan: Plan) -> str:
        taken = self.seconds[np.arange(self.graph.op_count), plan.devices]
        op = int(np.argmax(np.isinf(taken)))
        device = self.cluster.devices[plan.devices[op]]
        return (
            f"{device.name} cannot run op {self.graph.op_names[op]!r} ({self.graph.op_types[op]})"
        )


def _run(
    program: Program,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    peak: Int64[np.ndarray, " devices"],
    recording: Recording,
    holds: Int32[np.ndarray, " _"],
    overlap: Overlap | None = None,
) -> tuple[float, EngineState]:
    """Makespan in seconds, and the state that the run ended in; fills `peak` and the recording.

    Raises:
        KernelInputError: an array that the compiled engine must not be given.
    """
    arrays = program.arrays
    # Copies: numba compiles anew for arrays that cannot be written.
    devices, ranks = devices.copy(), ranks.copy()
    check_plan(devices, ranks, peak, arrays.seconds.shape)
    if recording is not NO_RECORDING:
        check_recording(recording, arrays, 1 if overlap is None else len(overlap.end_seconds))
    state = make_engine_state(arrays, holds, overlap)
    return run_kernel(arrays, state, devices, ranks, peak, recording), state


@overload
def simulate(
    graph: Graph, cluster: Cluster, plan: Plan, costs: CostModel | None = None
) -> Trace: ...


@overload
def simulate(
    graph: Graph,
    cluster: Cluster,
    plan: Plan,
    costs: CostModel | None = None,
    *,
    steps: int,
    in_flight: int,
    order: StepOrder = StepOrder.OLDEST_FIRST,
) -> StepsTrace: ...


def simulate(
    graph: Graph,
    cluster: Cluster,
    plan: Plan,
    costs: CostModel | None = None,
    *,
    steps: int | None = None,
    in_flight: int = 1,
    order: StepOrder = StepOrder.OLDEST_FIRST,
) -> Trace | StepsTrace:
    """Run one plan and return what happened; `costs` default to what suits the graph.

    Args:
        steps: how many steps run, or micro-batches of a graph with updates; one, with its updates,
            where none is given.
        in_flight: the most on the way at once.
        order: of the steps on a device.

    Example:
        >>> plan = Plan.of(np.zeros(graph.op_count, np.int32))
        >>> simulate(graph, cluster, plan).evaluation.feasible
        True
        >>> simulate(graph, cluster, plan, steps=8, in_flight=2).evaluation.feasible
        True
    """
    simulator = _simulator(graph, cluster, costs)
    if steps is None:
        return simulator.trace(plan)
    return simulator.trace_steps(plan, StepSchedule(steps, in_flight, order))


def simulate_many(
    graph: Graph, cluster: Cluster, plans: Sequence[Plan], costs: CostModel | None = None
) -> BatchEvaluation:
    """Score many plans on all cores.

    Example:
        >>> plans = [Plan.of(np.full(graph.op_count, device, np.int32)) for device in (0, 1)]
        >>> simulate_many(graph, cluster, plans).feasible.tolist()
        [True, True]
    """
    return _simulator(graph, cluster, costs).evaluate_many(plans)


def _simulator(graph: Graph, cluster: Cluster, costs: CostModel | None) -> Simulator:
    return Simulator.of(graph, cluster) if costs is None else Simulator(graph, cluster, costs)
