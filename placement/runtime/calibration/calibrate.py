"""Measures a machine: kernels of models, what programs cost beside them, and how far off that is.

Three sets of runs, none of which serves twice: single ops on one device give kernel times, a few
plans give the overheads, other plans give the error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import nnls

from placement.placer import OnProgress, silent
from placement.problem import Problem
from placement.runtime.calibration.judging import (
    CalibrationConfig,
    Judged,
    ModelFile,
    judge,
    overall_error,
)
from placement.runtime.calibration.link_probe import Pair, ProbedLink, probe_links
from placement.runtime.calibration.trial_plans import trial_plans
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock
from placement.runtime.ort.runtime import open_ort
from placement.runtime.pipelines.measurement import StepsMeasurement
from placement.runtime.pipelines.measuring import measure_steps
from placement.runtime.pipelines.replay import replay_steps
from placement.runtime.programs.device_program import Run, Send
from placement.runtime.programs.prediction import (
    Border,
    border_of,
    graph_works,
    overlap,
    readers_of,
)
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.programs.replay import replay
from placement.runtime.samples import Sampling
from simulator.clusters.calibration import Calibration
from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import HostCosts
from simulator.clusters.kernel_times import KernelTimes, signatures
from simulator.costs.calibrated_costs import CalibratedCosts
from simulator.plan import Plan
from simulator.steps import StepSchedule

_SHORTEST_SECONDS = 2e-7
_LEAST_SECONDS_PER_BYTE = 1e-13
#: Plans of which steps overlap, and how many steps of each.
_PIPELINE_PLANS, _PIPELINE_STEPS = 4, 8


@dataclass(frozen=True, eq=False)
class Sample:
    """What the steps of one program took, beside what is known of them."""

    kernel: Float64[np.ndarray, " runs"]
    ops: Float64[np.ndarray, " runs"]
    border: Float64[np.ndarray, "runs 3"]
    """Tensors, bytes taken in, bytes handed out."""
    busy: Float64[np.ndarray, " runs"]
    """Mean share of the other devices at work meanwhile."""
    woken: Float64[np.ndarray, " runs"]
    """How many tensors were received just before: what they left in the caches is not the run's."""
    run: Float64[np.ndarray, " runs"]
    sent: Float64[np.ndarray, "sends 2"]
    """Bytes and seconds."""
    received: Float64[np.ndarray, "receives 4"]
    """Source, target, bytes and seconds."""


def profile_kernels(runtime: ProgramRuntime, rounds: int) -> Float64[np.ndarray, " ops"]:
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
        measurement = runtime.measure([plan], sampling, single_ops=single_ops)[0]
        if not measurement.ok:
            raise RuntimeRefusal(f"{graph.name} could not be profiled: {measurement.failure}")
        for step, seconds in zip(
            program.steps[0], measurement.step_seconds[0].tolist(), strict=True
        ):
            assert isinstance(step, Run)
            runs.append((list(step.ops), border_of(step, works, readers, sizes)))
            taken.append(seconds)
    solution = _call_free(column, runs, np.array(taken))
    ran = {
        op for step in runtime.program(plan).steps[0] if isinstance(step, Run) for op in step.ops
    }
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


def sample_of(
    runtime: ProgramRuntime,
    plan: Plan,
    seconds: Sequence[Float64[np.ndarray, " _"]],
    busy: Sequence[Float64[np.ndarray, " _"]],
) -> Sample:
    """Pair what the steps of a measured program took with what is known of them.

    Args:
        runtime: that ran it.
        plan: of the program.
        seconds: per device, how long each step took.
        busy: for each, the mean share of the other devices at work meanwhile.
    """
    program = runtime.program(plan)
    graph, types = runtime.graph, runtime.source.transfer_types(program)
    works = graph_works(graph)
    readers = readers_of(works)
    kernels = runtime.simulator.seconds
    sizes = graph.tensor_bytes.tolist()
    runs: list[tuple[float, ...]] = []
    sent: list[tuple[float, float]] = []
    received: list[tuple[float, ...]] = []
    for device, steps in enumerate(program.steps):
        woken = 0
        for at, step in enumerate(steps):
            taken = float(seconds[device][at])
            if isinstance(step, Run):
                ops = list(step.ops)
                kernel = float(kernels[ops, device].sum())
                border = border_of(step, works, readers, sizes)
                runs.append((kernel, len(ops), *border, float(busy[device][at]), woken, taken))
                woken = 0
                continue
            transfer = program.transfers[step.transfer]
            size = float(types[step.transfer].nbytes)
            if isinstance(step, Send):
                sent.append((size, taken))
            else:
                woken += 1
                received.append((transfer.source, device, size, taken))
    table = np.array(runs, np.float64).reshape(-1, 8)
    kernel_seconds, counts, share, before, total = table[:, [0, 1, 5, 6, 7]].T
    return Sample(
        kernel_seconds,
        counts,
        table[:, 2:5],
        share,
        before,
        total,
        np.array(sent, np.float64).reshape(-1, 2),
        np.array(received, np.float64).reshape(-1, 4),
    )


@dataclass(frozen=True, eq=False)
class FittedCosts:
    """What a core spends beyond its kernels, and the pace at which each pair's tensors come in."""

    host: HostCosts
    receive_seconds_per_byte: Mapping[Pair, float]
    """By source and target, of the pairs between which something was sent."""


def fit_host_costs(samples: Sequence[Sample]) -> FittedCosts:
    """Least squares of relative errors with costs that are not negative.

    To receive costs what the copy takes, and what the run after it takes longer for it.
    """
    kernel = np.concatenate([item.kernel for item in samples])
    ops = np.concatenate([item.ops for item in samples])
    border = np.concatenate([item.border for item in samples])
    busy = np.concatenate([item.busy for item in samples])
    woken = np.concatenate([item.woken for item in samples])
    run = np.concatenate([item.run for item in samples])
    design = np.column_stack([np.ones(len(run)), ops, border, kernel * busy, woken])
    launch, per_op, per_tensor, per_input, per_output, contention, wake = _relative_fit(
        design, run - kernel, run
    )
    sent = np.concatenate([item.sent for item in samples])
    send, send_pace = 0.0, 0.0
    if len(sent):
        send, send_pace = _relative_fit(
            np.column_stack([np.ones(len(sent)), sent[:, 0]]), sent[:, 1]
        )
    received = np.concatenate([item.received for item in samples])
    receive, paces = 0.0, dict[Pair, float]()
    if len(received):
        ends = [(int(source), int(target)) for source, target in received[:, :2]]
        pairs = sorted(set(ends))
        columns = np.array([pairs.index(pair) for pair in ends])
        design = np.column_stack(
            [np.ones(len(ends)), (columns[:, None] == np.arange(len(pairs))) * received[:, 2:3]]
        )
        receive, *each = _relative_fit(design, received[:, 3])
        paces = dict(zip(pairs, each, strict=True))
    host = HostCosts(
        launch,
        per_op,
        per_tensor,
        per_input,
        per_output,
        send,
        send_pace,
        receive + wake,
        contention,
    )
    return FittedCosts(host, paces)


def _relative_fit(
    design: Float64[np.ndarray, "rows costs"],
    wanted: Float64[np.ndarray, " rows"],
    scale: Float64[np.ndarray, " rows"] | None = None,
) -> tuple[float, ...]:
    """Costs that are not negative; what takes long may be off by more, though not in proportion."""
    weight = np.maximum(wanted if scale is None else scale, 1e-7) ** -0.25
    return tuple(map(float, nnls(design * weight[:, None], wanted * weight)[0]))


def with_host_costs(
    cluster: Cluster, fitted: FittedCosts, probed: Mapping[Pair, ProbedLink]
) -> Cluster:
    """Cores that do everything themselves, and links as each pair of them was measured.

    A pair between which no plan sent anything gets the pace of the probe, corrected by how much
    slower tensors come in than the probe's on the other pairs.
    """
    known = fitted.receive_seconds_per_byte
    shares = [known[pair] * link.bytes_per_second for pair, link in probed.items() if pair in known]
    share = float(np.median(shares)) if shares else 1.0
    names = cluster.device_names
    links = []
    for link in cluster.links:
        pair = names.index(link.source), names.index(link.target)
        measured = probed[pair]
        pace = known.get(pair) or share / measured.bytes_per_second
        links.append(
            replace(
                link,
                bytes_per_second=1.0 / max(pace, _LEAST_SECONDS_PER_BYTE),
                latency_seconds=measured.latency_seconds,
            )
        )
    devices = tuple(
        replace(device, launch_seconds=0.0, host=fitted.host) for device in cluster.devices
    )
    return replace(cluster, devices=devices, links=tuple(links))


def calibrate(
    models: Sequence[ModelFile],
    cluster: Cluster,
    machine: str,
    costs_file: str,
    config: CalibrationConfig,
    on_progress: OnProgress = silent,
    profiled: Sequence[ModelFile] = (),
) -> tuple[Cluster, list[Judged]]:
    """Measure models on a cluster of this machine's cores.

    Of the models in `profiled` only kernels are measured, such as of further sizes of the others:
    kernels without a sample of their own are placed between those of their kind.

    Returns the cluster with what was measured, and what its predictions are worth, per model.

    Raises:
        RuntimeRefusal: a model that cannot run here.
    """
    times = KernelTimes(machine, cluster.devices[0].kind)
    stages, done = 2 * len(models) + len(profiled), 0
    samples: list[Sample] = []
    for model in profiled:
        with _open(model, cluster, config) as runtime:
            times = times.with_graph(runtime.graph, profile_kernels(runtime, config.rounds))
        done += 1
        on_progress(done / stages)
    for model in models:
        with _open(model, cluster, config) as runtime:
            seconds = profile_kernels(runtime, config.rounds)
            times = times.with_graph(runtime.graph, seconds)
            runtime.costs = CalibratedCosts(times)
            samples += _fitting_runs(runtime, config)
        done += 1
        on_progress(done / stages)
    calibrated = with_host_costs(cluster, fit_host_costs(samples), probe_links(cluster))
    calibration = Calibration(machine, "ort", times, costs_file)
    calibrated = replace(calibrated, calibration=calibration)
    judged = []
    sampling = Sampling(rounds=config.rounds, clock=Clock.VIRTUAL)
    for model in models:
        with _open(model, calibrated, config) as runtime:
            judged.append(judge(runtime, sampling, config))
        done += 1
        on_progress(done / stages)
    calibration = replace(calibration, error=overall_error(judged))
    return replace(calibrated, calibration=calibration), judged


def _open(model: ModelFile, cluster: Cluster, config: CalibrationConfig) -> ProgramRuntime:
    return open_ort(model.path, model.graph, cluster, dims=model.dims, seed=config.seed)


def _fitting_runs(runtime: ProgramRuntime, config: CalibrationConfig) -> list[Sample]:
    problem = Problem(runtime.graph, runtime.cluster, given_costs=runtime.costs)
    plans = list(trial_plans(problem, config.fitted_plans, config.seed + 1).values())
    sampling = Sampling(rounds=config.rounds, clock=Clock.VIRTUAL)
    samples = [
        sample_of(
            runtime,
            plan,
            item.step_seconds,
            overlap(replay(runtime.program(plan), item.step_seconds)),
        )
        for plan, item in zip(plans, runtime.measure(plans, sampling), strict=True)
        if item.ok
    ]
    return samples + _full_pipelines(runtime, plans[-_PIPELINE_PLANS:], sampling)


def _full_pipelines(
    runtime: ProgramRuntime, plans: Sequence[Plan], sampling: Sampling
) -> list[Sample]:
    """Of steps that overlap; none of a model of which they cannot.

    Steps of a chain by themselves hardly overlap: what cores do to each other that are all busy
    shows in a full pipeline only.
    """
    schedule = StepSchedule(_PIPELINE_STEPS, runtime.cluster.device_count + 1)
    try:
        found = measure_steps(runtime, plans, schedule, sampling)
    except RuntimeRefusal:  # shapes depend on inputs; a step by itself has been measured
        return []
    return [
        sample_of(runtime, plan, item.piece_seconds, _full_overlap(item, plan, runtime))
        for plan, item in zip(plans, found, strict=True)
        if item.ok
    ]


def _full_overlap(
    found: StepsMeasurement, plan: Plan, runtime: ProgramRuntime
) -> list[Float64[np.ndarray, " _"]]:
    """For each piece the mean share of the other devices that are busy, once a pipeline is full."""
    schedule = found.schedule
    seconds = [np.tile(values, (schedule.steps, 1)) for values in found.piece_seconds]
    shares = replay_steps(runtime.program(plan), seconds, schedule).overlap()
    return [share[schedule.steps // 2 :].mean(axis=0) for share in shares]
