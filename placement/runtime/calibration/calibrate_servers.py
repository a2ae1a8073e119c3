"""Measures TensorFlow on this machine's cores: op costs, what servers and hops cost, the error.

Ops are timed in traced steps on one device, one after the other. What a trace does not show (the
executor, the client's call, tensors on their way through gRPC) is fitted: the figures with which
the event engine's step times come closest to those of a few plans as measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize

from placement.placer import OnProgress, silent
from placement.problem import Problem
from placement.runtime.calibration.judging import (
    CalibrationConfig,
    Judged,
    ModelFile,
    judge,
    overall_error,
)
from placement.runtime.calibration.trial_plans import trial_plans
from placement.runtime.samples import Sampling
from placement.runtime.tensorflow_servers.runtime import TensorFlowRuntime, open_tensorflow
from simulator.clusters.calibration import Calibration
from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import HostCosts
from simulator.clusters.kernel_times import KernelTimes
from simulator.costs.calibrated_costs import CalibratedCosts
from simulator.plan import Plan
from simulator.simulator import Simulator

_TRACED_STEPS = 7
_EVALUATIONS = 600
_RESTARTS = 2


@dataclass(frozen=True)
class ServerCosts:
    """What is fitted; the values here are where fitting starts."""

    kernel_share: float = 0.95
    """The share of a traced op's time that is the kernel's: tracing takes the rest."""
    op_seconds: float = 5e-6
    send_seconds: float = 5e-5
    receive_seconds: float = 5e-5
    send_seconds_per_byte: float = 2e-10
    receive_seconds_per_byte: float = 2e-10
    latency_seconds: float = 5e-5
    contention: float = 0.05
    step_seconds: float = 5e-4


#: Where searches for the costs begin: several figures do much the same, and one start gets stuck.
_STARTS = tuple(
    ServerCosts(op_seconds=op, contention=contention)
    for op in (3e-6, 2e-5)
    for contention in (0.05, 0.4)
)


@dataclass(frozen=True, eq=False)
class _Measured:
    """One model with plans as measured."""

    simulator: Simulator
    plans: tuple[Plan, ...]
    seconds: Float64[np.ndarray, " plans"]


def calibrate_tensorflow(
    models: Sequence[ModelFile],
    cluster: Cluster,
    machine: str,
    costs_file: str,
    config: CalibrationConfig,
    on_progress: OnProgress = silent,
    profiled: Sequence[ModelFile] = (),
) -> tuple[Cluster, list[Judged]]:
    """Measure models on servers on this machine's cores; those in `profiled` are left out.

    Returns the cluster with what was measured, and what its predictions are worth, per model.

    Raises:
        RuntimeRefusal: a model that cannot run here.
    """
    times = KernelTimes(machine, cluster.devices[0].kind)
    stages, done = 2 * len(models), 0
    sampling = wall_sampling(config.rounds)
    measured: list[_Measured] = []
    profiles: list[tuple[Simulator, Float64[np.ndarray, " ops"]]] = []
    for model in models:
        with _open(model, cluster, config) as runtime:
            seconds = runtime.profile(_TRACED_STEPS)
            traced = KernelTimes(machine, cluster.devices[0].kind)
            runtime.costs = CalibratedCosts(traced.with_graph(runtime.graph, seconds))
            simulator = runtime.simulator
            profiles.append((simulator, seconds))
            problem = Problem(runtime.graph, cluster, given_costs=runtime.costs)
            plans = trial_plans(problem, config.fitted_plans, config.seed + 1)
            ran = runtime.measure(list(plans.values()), sampling)
        kept = [
            (plan, item.seconds) for plan, item in zip(plans.values(), ran, strict=True) if item.ok
        ]
        measured.append(
            _Measured(simulator, tuple(p for p, _ in kept), np.array([s for _, s in kept]))
        )
        done += 1
        on_progress(done / stages)
    costs = fit_server_costs(measured)
    for simulator, seconds in profiles:
        times = times.with_graph(simulator.graph, seconds * costs.kernel_share)
    calibration = Calibration(machine, "tf", times, costs_file, None, costs.step_seconds)
    fitted = replace(with_server_costs(cluster, costs), calibration=calibration)
    judged = []
    for model in models:
        with _open(model, fitted, config) as runtime:
            judged.append(judge(runtime, sampling, config))
        done += 1
        on_progress(done / stages)
    calibration = replace(calibration, error=overall_error(judged))
    return replace(fitted, calibration=calibration), judged


def _open(model: ModelFile, cluster: Cluster, config: CalibrationConfig) -> TensorFlowRuntime:
    return open_tensorflow(model.path, model.graph, cluster, seed=config.seed)


def wall_sampling(rounds: int) -> Sampling:
    """Many steps in a row: opening a plan takes much longer, and few steps are quiet."""
    return Sampling(rounds=rounds, iterations=12)


def with_server_costs(cluster: Cluster, costs: ServerCosts) -> Cluster:
    """Servers that spend their core's time on tensors, and links as slow as a hop."""
    host = HostCosts(
        op_seconds=costs.op_seconds,
        send_seconds=costs.send_seconds,
        send_seconds_per_byte=costs.send_seconds_per_byte,
        receive_seconds=costs.receive_seconds,
        contention=costs.contention,
    )
    links = tuple(
        replace(
            link,
            bytes_per_second=1.0 / costs.receive_seconds_per_byte,
            latency_seconds=costs.latency_seconds,
        )
        for link in cluster.links
    )
    devices = tuple(replace(device, launch_seconds=0.0, host=host) for device in cluster.devices)
    return replace(cluster, devices=devices, links=links)


def fit_server_costs(found: Sequence[_Measured]) -> ServerCosts:
    """The figures with the least mean error of step times, searched for by their logarithms."""
    best, least = ServerCosts(), np.inf
    for given in _STARTS:
        start = np.log([getattr(given, item.name) for item in fields(ServerCosts)])

        def loss(
            logarithms: Float64[np.ndarray, " costs"],
            start: Float64[np.ndarray, " costs"] = start,
        ) -> float:
            costs = _from_logarithms(logarithms)
            errors = [
                np.abs(np.log(predict_seconds(item, costs) / item.seconds)).mean() for item in found
            ]
            return float(np.mean(errors)) + 1e-3 * float(np.abs(logarithms - start).mean())

        at = start
        for _ in range(_RESTARTS):
            corners = np.vstack([at, at + 0.7 * np.eye(len(at))])
            options = {"maxfev": _EVALUATIONS, "adaptive": True, "initial_simplex": corners}
            at = minimize(loss, at, method="Nelder-Mead", options=options).x
        if loss(at) < least:
            best, least = _from_logarithms(at), loss(at)
    return best


def _from_logarithms(logarithms: Float64[np.ndarray, " costs"]) -> ServerCosts:
    return ServerCosts(*np.exp(np.clip(logarithms, -30.0, 1.0)).tolist())


def predict_seconds(item: _Measured, costs: ServerCosts) -> Float64[np.ndarray, " plans"]:
    """Step times of a model's plans with some costs."""
    base = item.simulator
    known = _Scaled(base.seconds * costs.kernel_share)
    simulator = Simulator(base.graph, with_server_costs(base.cluster, costs), known)
    times = [simulator.evaluate(plan).makespan_seconds for plan in item.plans]
    return np.array(times) + costs.step_seconds


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Costs that are known already."""

    values: Float64[np.ndarray, "ops devices"]
    name = "traced"

    def seconds(self, graph: object, cluster: object) -> Float64[np.ndarray, "ops devices"]:
        """See `CostModel`."""
        return self.values.copy()
