"""Why a plan is as it is: what an op's place costs against others, and what binds the whole."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from graphs.errors import GraphwrightError
from placement.problem import Problem
from simulator.evaluation import Evaluation
from simulator.plan import Plan
from simulator.traces.critical_path import critical_path, critical_seconds
from simulator.traces.idle import CAUSES, idle_stretches
from simulator.traces.trace import Trace

#: A device that is fuller than that is said to bind.
_NEARLY_FULL = 0.9


@dataclass(frozen=True)
class Move:
    """What would happen if a unit went elsewhere, all else as it is."""

    device: str
    allowed: bool
    evaluation: Evaluation | None
    """None where the constraints or the device's kernels forbid the move."""
    change_seconds: float
    """Step time after the move less that of the plan; infinite where it is not allowed."""


@dataclass(frozen=True)
class OpExplanation:
    """One op's place."""

    op: str
    op_type: str
    device: str
    unit_size: int
    """Ops that share its device by colocation, itself included."""
    reason: str
    seconds: Mapping[str, float]
    """Compute seconds of the unit on each device."""
    moves: tuple[Move, ...]
    """One simulation for each other device."""
    reads: Mapping[str, int]
    """Bytes that the unit reads, by the device that they come from."""
    feeds: Mapping[str, int]
    """Bytes that others read of the unit, by their device."""
    critical: bool
    """Whether an op of the unit is on the critical path."""


@dataclass(frozen=True)
class PlanExplanation:
    """What the step time is made of, and what keeps it from being less."""

    makespan_seconds: float
    critical_seconds: Mapping[str, float]
    bounds: Mapping[str, float]
    """Lower bounds by their argument."""
    devices: Mapping[str, Mapping[str, float]]
    """Seconds computing and idle by cause, for each device."""
    binding: tuple[str, ...]
    """Sentences: what limits this plan."""
    critical_ops: tuple[tuple[str, str, float], ...]
    """The longest ops on the critical path: name, device, seconds."""


def explain_op(problem: Problem, plan: Plan, trace: Trace, name: str) -> OpExplanation:
    """Move an op's unit to each other device, one at a time, and simulate.

    Raises:
        GraphwrightError: the graph has no such op.
    """
    graph, names = problem.graph, problem.cluster.device_names
    if name not in graph.op_index:
        near = get_close_matches(name, graph.op_names, n=3, cutoff=0.5)
        hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
        raise GraphwrightError(f"graph {graph.name!r} has no op {name!r}{hint}")
    op = graph.op_index[name]
    unit = int(problem.unit_of[op])
    members = np.flatnonzero(problem.unit_of == unit)
    home = int(plan.devices[op])
    moves = tuple(
        _move(problem, plan, trace, members, device)
        for device in range(len(names))
        if device != home
    )
    on_path = {step.index for step in critical_path(trace) if step.what == "op"}
    kernels = set(members.tolist())
    if plan.is_fused:
        position = trace.graph.op_index
        kernels = {position[graph.op_names[m]] for m in members if graph.op_names[m] in position}
    seconds = problem.simulator.seconds[members].sum(axis=0)
    return OpExplanation(
        op=name,
        op_type=graph.op_types[op],
        device=names[home],
        unit_size=len(members),
        reason=_reason(problem, members, home, moves, trace),
        seconds={device: float(seconds[index]) for index, device in enumerate(names)},
        moves=moves,
        reads=_traffic(problem, plan, members, into=True),
        feeds=_traffic(problem, plan, members, into=False),
        critical=bool(kernels & on_path),
    )


def _move(problem: Problem, plan: Plan, trace: Trace, members: np.ndarray, device: int) -> Move:
    name = problem.cluster.device_names[device]
    if not problem.unit_allowed[problem.unit_of[members[0]], device]:
        return Move(name, False, None, float("inf"))
    devices = plan.devices.copy()
    devices[members] = device
    fusion = plan.fusion.copy()
    torn = np.isin(fusion, np.unique(fusion[members])) & (fusion >= 0)
    fusion[torn] = -1  # a kernel is on one device
    moved = replace(plan, devices=devices, fusion=fusion)
    evaluation = problem.simulator.evaluate(moved)
    return Move(name, True, evaluation, evaluation.makespan_seconds - trace.makespan_seconds)


def _reason(
    problem: Problem,
    members: np.ndarray,
    home: int,
    moves: tuple[Move, ...],
    trace: Trace,
) -> str:
    name = problem.cluster.device_names[home]
    allowed = problem.constraints.allowed(problem.graph, problem.cluster)
    if not any(move.allowed for move in moves):
        if (~allowed[members]).any():
            return f"the constraints leave no other device than {name}"
        return f"no other device than {name} can run it"
    others = [move for move in moves if move.allowed and move.evaluation is not None]
    fitting = [move for move in others if move.evaluation is not None and move.evaluation.feasible]
    company = (
        f"with {len(members) - 1} ops that must share its device, " if len(members) > 1 else ""
    )
    if trace.evaluation.feasible and not fitting:
        return f"{company}it fits nowhere else"
    best = min(fitting or others, key=lambda move: move.change_seconds)
    step = trace.makespan_seconds or 1.0
    share = best.change_seconds / step
    if share > 1e-4:
        return f"{company}the step would take {share:.1%} longer with it on {best.device}"
    if share >= -1e-4:
        return f"{company}it matters little: on {best.device} the step takes as long"
    return (
        f"{company}the placer missed a move: on {best.device} the step would take {-share:.1%} less"
    )


def _traffic(problem: Problem, plan: Plan, members: np.ndarray, into: bool) -> dict[str, int]:
    """Bytes over the unit's border by the device at the other end; a tensor counts once there."""
    graph, names = problem.graph, problem.cluster.device_names
    inside = set(members.tolist())
    sent: dict[tuple[int, int], int] = {}
    for op in inside:
        for tensor in graph.inputs_of(op) if into else graph.outputs_of(op):
            ends = (
                [int(graph.tensor_producers[tensor])]
                if into
                else graph.consumers_of(tensor).tolist()
            )
            for other in ends:
                if other not in inside:
                    key = (int(plan.devices[other]), int(tensor))
                    sent[key] = int(graph.tensor_bytes[tensor])
    totals: dict[str, int] = {}
    for (device, _), size in sorted(sent.items()):
        totals[names[device]] = totals.get(names[device], 0) + size
    return {name: size for name, size in totals.items() if size}


def explain_plan(problem: Problem, plan: Plan, trace: Trace) -> PlanExplanation:
    """What the step is made of, and what binds it."""
    names = problem.cluster.device_names
    bounds = problem.bounds
    path = critical_path(trace)
    parts = critical_seconds(trace)
    devices = {
        name: {"computing": float(trace.busy_seconds[index]), **dict.fromkeys(CAUSES, 0.0)}
        for index, name in enumerate(names)
    }
    for item in idle_stretches(trace):
        devices[names[item.device]][item.cause] += item.seconds
    longest = sorted(
        (step for step in path if step.what == "op"),
        key=lambda step: step.start_seconds - step.end_seconds,
    )[:10]
    return PlanExplanation(
        makespan_seconds=trace.makespan_seconds,
        critical_seconds=parts,
        bounds={
            "all work spread perfectly": bounds.load_seconds,
            "the longest chain": bounds.critical_path_seconds,
            "a transfer that memory makes unavoidable": bounds.memory_cut_seconds,
        },
        devices=devices,
        binding=tuple(_binding(problem, trace, parts)),
        critical_ops=tuple(
            (
                trace.graph.op_names[step.index],
                names[trace.devices[step.index]],
                step.end_seconds - step.start_seconds,
            )
            for step in longest
        ),
    )


def _binding(problem: Problem, trace: Trace, parts: Mapping[str, float]) -> list[str]:
    names, step = problem.cluster.device_names, trace.makespan_seconds or 1.0
    said = []
    if trace.evaluation.failure is not None:
        said.append(f"It does not fit: {trace.evaluation.failure}.")
    for index, device in enumerate(problem.cluster.devices):
        share = float(trace.peak_bytes[index]) / device.memory_bytes
        if _NEARLY_FULL < share <= 1:
            said.append(f"Memory of {device.name} is {share:.0%} full: little more goes there.")
    busiest = int(trace.busy_seconds.argmax())
    if trace.busy_seconds[busiest] > _NEARLY_FULL * step:
        share = trace.busy_seconds[busiest] / step
        said.append(
            f"{names[busiest]} computes {share:.0%} of the step: only less work there helps."
        )
    if parts["transfer"] > 0.2 * step:
        said.append(
            f"Transfers are {parts['transfer'] / step:.0%} of the critical path: faster links, or "
            "fewer crossings, would help."
        )
    ratio = step / problem.bounds.seconds if problem.bounds.seconds else float("inf")
    if ratio < 1.05:
        said.append(f"It takes {ratio:.2f} times the lower bound: no plan can be much better.")
    unused = [name for index, name in enumerate(names) if not trace.busy_seconds[index]]
    if unused:
        said.append(f"{', '.join(unused)} computes nothing: what it would save costs more to send.")
    pinned = ~problem.constraints.allowed(problem.graph, problem.cluster)
    if pinned.any():
        tied = int(pinned.any(axis=1).sum())
        said.append(f"Constraints keep {tied} ops from some device.")
    if problem.unit_count < problem.graph.op_count:
        said.append(
            f"{problem.graph.op_count} ops form {problem.unit_count} units that must stay together."
        )
    return said
