"""Measures a machine: kernels of models, what programs cost beside them, and how far off that is.

Three sets of runs, none of which serves twice: single ops on one device give kernel times, a few
plans give the overheads, other plans give the error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import nnls

from graphs.graph import Graph
from placement.placer import Report, silent
from placement.problem import Problem
from placement.runtime.device_program import Run, Send
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock, Measurement
from placement.runtime.ort_runtime import OrtRuntime
from placement.runtime.prediction import (
    Border,
    ProgramPredictor,
    border_of,
    graph_works,
    overlap,
    readers_of,
)
from placement.runtime.prediction_error import prediction_error
from placement.runtime.replay import replay
from placement.runtime.samples import Sampling
from placement.runtime.trial_plans import trial_plans
from simulator.calibration import Calibration, PredictionError, ProgramCosts
from simulator.cluster import Cluster, Link
from simulator.cost_table import CostTable, signatures
from simulator.engine import Simulator
from simulator.plan import Plan

_SHORTEST_SECONDS = 2e-7


@dataclass(frozen=True)
class CalibrationConfig:
    """How much to measure."""

    fitted_plans: int = 6
    """Per model, for the overheads."""
    judged_plans: int = 10
    """Per model, for the error."""
    rounds: int = 7
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Judged:
    """Plans of one model that were not used to calibrate, predicted and measured."""

    graph: Graph
    names: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[Measurement, ...]
    error: PredictionError


@dataclass(frozen=True, eq=False)
class Sample:
    """What the steps of one program took, beside what is known of them."""

    kernel: Float64[np.ndarray, " runs"]
    ops: Float64[np.ndarray, " runs"]
    border: Float64[np.ndarray, "runs 3"]
    """Tensors, bytes taken in, bytes handed out."""
    busy: Float64[np.ndarray, " runs"]
    """Mean share of the other devices at work meanwhile."""
    run: Float64[np.ndarray, " runs"]
    sent: Float64[np.ndarray, "sends 2"]
    """Bytes and seconds."""
    received: Float64[np.ndarray, "receives 2"]


def profile_kernels(runtime: OrtRuntime, rounds: int) -> Float64[np.ndarray, " ops"]:
    """Seconds of each op's kernel, without what it takes to call a session.

    On one device the graph is run twice over: each op in a session of its own, and in sessions as
    long as can be. A session takes its kernels, a call, and a little for each tensor that crosses
    its border; ops of one signature take equally long. Least squares tell these apart.

    Raises:
        RuntimeRefusal: the model cannot run here.
    """
    graph = runtime.graph
    plan = Plan.of(np.zeros(graph.op_count, np.int32))
    sampling = Sampling(rounds=rounds, clock=Clock.VIRTUAL)
    works = graph_works(graph)
    readers = readers_of(works)
    keys = {key: at for at, key in enumerate(dict.fromkeys(signatures(graph)))}
    column = np.array([keys[key] for key in signatures(graph)])
    sizes = graph.tensor_bytes.tolist()
    runs: list[tuple[list[int], Border]] = []
    taken: list[float] = []
    for single_ops in (False, True, False, True):  # alternately: both see the same machine
        program = runtime.program(plan, single_ops=single_ops)
        found = runtime.measure([plan], sampling, single_ops=single_ops)[0]
        if not found.ok:
            raise RuntimeRefusal(f"{graph.name} could not be profiled: {found.failure}")
        for step, seconds in zip(program.steps[0], found.step_seconds[0].tolist(), strict=True):
            assert isinstance(step, Run)
            runs.append((list(step.ops), border_of(step, works, readers, sizes)))
            taken.append(seconds)
    solution = _call_free(column, runs, np.array(taken))
    ran = {op for step in runtime.program(plan).steps[0] for op in getattr(step, "ops", ())}
    seconds = np.where(
        np.isin(np.arange(graph.op_count), list(ran)),
        np.maximum(solution[column], _SHORTEST_SECONDS),
        0.0,
    )
    return np.asarray(seconds, np.float64)


def _call_free(
    column: Int64[np.ndarray, " ops"],
    runs: Sequence[tuple[Sequence[int], Border]],
    taken: Float64[np.ndarray, " runs"],
) -> Float64[np.ndarray, " kinds"]:
    """Seconds of each kind of op, given what runs of them took and what crossed their borders."""
    kinds = int(column.max()) + 1
    design = np.zeros((len(runs), kinds + 4))
    for row, (ops, border) in enumerate(runs):
        np.add.at(design[row], column[list(ops)], 1.0)
        design[row, kinds:] = 1.0, *border
    weight = 1.0 / np.sqrt(np.maximum(taken, 1e-6))
    return nnls(design * weight[:, None], taken * weight)[0][:kinds]


def sample_of(runtime: OrtRuntime, plan: Plan, found: Measurement) -> Sample:
    """Pair what the steps of a measured program took with what is known of them."""
    program = runtime.program(plan)
    graph, types = runtime.graph, runtime.types
    works = graph_works(graph)
    readers = readers_of(works)
    kernels = runtime.simulator.seconds
    busy = overlap(replay(program, found.step_seconds))
    sizes = graph.tensor_bytes.tolist()
    runs: list[tuple[float, ...]] = []
    sent: list[tuple[float, float]] = []
    received: list[tuple[float, float]] = []
    for device, steps in enumerate(program.steps):
        for at, step in enumerate(steps):
            taken = float(found.step_seconds[device][at])
            if isinstance(step, Run):
                ops = list(step.ops)
                kernel = float(kernels[ops, device].sum())
                border = border_of(step, works, readers, sizes)
                runs.append((kernel, len(ops), *border, float(busy[device][at]), taken))
                continue
            size = float(types[program.transfers[step.transfer].tensor].nbytes)
            (sent if isinstance(step, Send) else received).append((size, taken))
    table = np.array(runs, np.float64).reshape(-1, 7)
    kernel_seconds, counts, share, total = table[:, [0, 1, 5, 6]].T
    return Sample(
        kernel_seconds, counts, table[:, 2:5], share, total, _pairs(sent), _pairs(received)
    )


def _pairs(values: list[tuple[float, float]]) -> Float64[np.ndarray, "rows 2"]:
    return np.array(values, np.float64).reshape(-1, 2)


def fit_program_costs(samples: Sequence[Sample]) -> ProgramCosts:
    """Least squares of relative errors with costs that are not negative."""
    kernel = np.concatenate([item.kernel for item in samples])
    ops = np.concatenate([item.ops for item in samples])
    border = np.concatenate([item.border for item in samples])
    busy = np.concatenate([item.busy for item in samples])
    run = np.concatenate([item.run for item in samples])
    weight = 1.0 / np.sqrt(np.maximum(run, 1e-6))
    design = np.column_stack([np.ones(len(run)), ops, border, kernel * busy])
    fitted = nnls(design * weight[:, None], (run - kernel) * weight)[0]
    launch, per_op, per_tensor, per_input, per_output, contention = map(float, fitted)
    send = _line(np.concatenate([item.sent for item in samples]))
    receive = _line(np.concatenate([item.received for item in samples]))
    return ProgramCosts(
        launch, per_op, per_tensor, per_input, per_output, *send, *receive, contention
    )


def _line(pairs: Float64[np.ndarray, "rows 2"]) -> tuple[float, float]:
    """Base and slope of seconds over bytes."""
    if not len(pairs):
        return 0.0, 0.0
    weight = 1.0 / np.sqrt(np.maximum(pairs[:, 1], 1e-7))
    design = np.stack([np.ones(len(pairs)), pairs[:, 0]], axis=1)
    base, slope = nnls(design * weight[:, None], pairs[:, 1] * weight)[0]
    return float(base), float(slope)


def with_program_costs(cluster: Cluster, costs: ProgramCosts) -> Cluster:
    """Links that cost in the event engine, roughly, what a program spends on a transfer."""
    pace = costs.send_seconds_per_byte + costs.receive_seconds_per_byte
    pace += costs.input_seconds_per_byte + costs.output_seconds_per_byte
    latency = costs.send_seconds + costs.receive_seconds + costs.launch_seconds
    links = tuple(
        Link(link.source, link.target, 1.0 / max(pace, 1e-12), latency, link.channels)
        for link in cluster.links
    )
    devices = tuple(replace(device, launch_seconds=0.0) for device in cluster.devices)
    return replace(cluster, devices=devices, links=links)


#: Opens a runtime for one of the models that are measured, on a cluster.
OpenRuntime = Callable[[Cluster], OrtRuntime]


def calibrate(
    models: Sequence[OpenRuntime],
    cluster: Cluster,
    machine: str,
    costs_file: str,
    config: CalibrationConfig,
    report: Report = silent,
) -> tuple[Cluster, list[Judged]]:
    """Measure models on a cluster of this machine's cores.

    Returns the cluster with what was measured, and what its predictions are worth, per model.

    Raises:
        RuntimeRefusal: a model that cannot run here.
    """
    table = CostTable(machine, cluster.devices[0].kind)
    stages, done = 2 * len(models), 0
    samples: list[Sample] = []
    for open_runtime in models:
        with open_runtime(cluster) as runtime:
            seconds = profile_kernels(runtime, config.rounds)
            table = table.with_graph(runtime.graph, seconds)
            runtime.costs = table
            samples += _fitting_runs(runtime, config)
        done += 1
        report(done / stages)
    costs = fit_program_costs(samples)
    found = with_program_costs(cluster, costs)
    judged = []
    for open_runtime in models:
        with open_runtime(found) as runtime:
            runtime.costs = table
            judged.append(judge(runtime, costs, config))
        done += 1
        report(done / stages)
    overall = prediction_error(
        [f"{item.graph.name}: {name}" for item in judged for name in item.names],
        [seconds for item in judged for seconds in item.predicted],
        [value for item in judged for value in item.measured],
        [item.graph.name for item in judged for _ in item.names],
    )
    calibration = Calibration(machine, "ort", costs, table, costs_file, overall)
    return replace(found, calibration=calibration), judged


def _fitting_runs(runtime: OrtRuntime, config: CalibrationConfig) -> list[Sample]:
    problem = Problem(runtime.graph, runtime.cluster, given_costs=runtime.costs)
    plans = list(trial_plans(problem, config.fitted_plans, config.seed + 1).values())
    found = runtime.measure(plans, Sampling(rounds=config.rounds, clock=Clock.VIRTUAL))
    return [
        sample_of(runtime, plan, item) for plan, item in zip(plans, found, strict=True) if item.ok
    ]


def judge(runtime: OrtRuntime, costs: ProgramCosts, config: CalibrationConfig) -> Judged:
    """Predict plans that nothing was fitted to, then measure them."""
    simulator = Simulator(runtime.graph, runtime.cluster, runtime.costs)
    predictor = ProgramPredictor(simulator, costs)
    problem = Problem(runtime.graph, runtime.cluster, given_costs=runtime.costs)
    named = trial_plans(problem, config.judged_plans, config.seed + 1000)
    predicted = [predictor.evaluate(plan).makespan_seconds for plan in named.values()]
    sampling = Sampling(rounds=config.rounds, clock=Clock.VIRTUAL)
    measured = runtime.measure(list(named.values()), sampling)
    names = tuple(named)
    error = prediction_error(names, predicted, measured)
    return Judged(runtime.graph, names, tuple(predicted), tuple(measured), error)
