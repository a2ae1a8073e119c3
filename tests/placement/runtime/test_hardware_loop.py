"""Measurements as scores: filtered by predictions, cached, and not taken in by luck."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from device_models import core_cluster
from graph_samples import random_graph

import envs
from agent.runs.measurement_cache import DiskCache, default_folder
from envs.evaluator import TracedEvaluator
from placement.problem import Problem
from placement.runtime.hardware_evaluator import HardwareEvaluator, MeasuredRatio, PlanMeter
from placement.runtime.measured_search import MeasuredSearchConfig, measured_search, neighbours
from placement.runtime.measurement import Clock, Measurement
from placement.runtime.samples import Sampling
from simulator.clusters.calibration import Calibration
from simulator.clusters.kernel_times import KernelTimes
from simulator.costs.cost_model import RooflineCosts
from simulator.errors import ClusterError
from simulator.plan import Plan
from simulator.simulator import Simulator

assert envs


@dataclass
class Pretended:
    """A machine on which each op of device 1 takes a tenth of what is predicted, and drifts."""

    simulator: Simulator
    kind: str = "ort"
    ran: list[str] = field(default_factory=list)
    drift: float = 1.0

    def measure(self, plans: Sequence[Plan], sampling: Sampling | None = None) -> list[Measurement]:
        self.drift *= 1.1
        found = []
        for plan in plans:
            self.ran.append(plan.digest)
            share = np.where(plan.devices == 1, 0.1, 1.0)
            seconds = float((self.simulator.seconds[:, 0] * share).sum()) * self.drift
            found.append(
                Measurement(np.full(5, seconds), Clock.VIRTUAL, rounds=np.full(5, seconds))
            )
        return found


def pretended(seed: int = 0) -> tuple[Problem, Pretended]:
    graph = random_graph(seed, 40, groups=False)
    times = KernelTimes("m", "none")
    calibration = Calibration("m", "ort", times, "costs.json")
    cluster = replace(core_cluster(), calibration=calibration)
    problem = Problem(graph, cluster, given_costs=RooflineCosts())
    return problem, Pretended(problem.simulator)


def on_one(problem: Problem) -> Plan:
    return Plan.of(np.zeros(problem.graph.op_count, np.int32))


def test_only_the_promising_are_measured_and_none_twice() -> None:
    problem, machine = pretended()
    assert isinstance(machine, PlanMeter)
    evaluator = HardwareEvaluator.of(machine, on_one(problem))
    assert isinstance(evaluator, TracedEvaluator)
    drawn = neighbours(on_one(problem), problem, np.random.default_rng(0))
    plans = [next(drawn) for _ in range(20)]
    batch = evaluator.evaluate_many(plans)
    distinct = set(machine.ran) - {on_one(problem).digest}
    assert len(distinct) == evaluator.measured_per_batch
    before = len(machine.ran)
    again = evaluator.evaluate_many(plans)
    assert len(machine.ran) == before
    assert np.array_equal(batch.makespan_seconds, again.makespan_seconds)
    assert evaluator.evaluate(plans[0]).source == "measured"


def test_scores_do_not_drift_with_the_machine() -> None:
    problem, machine = pretended()
    evaluator = HardwareEvaluator.of(machine, on_one(problem))
    evaluator.reference_seconds()
    other = Plan.of(np.ones(problem.graph.op_count, np.int32))
    first = evaluator.evaluate(other).makespan_seconds
    evaluator.cache.clear()
    assert evaluator.evaluate(other).makespan_seconds == pytest.approx(first)
    assert first == pytest.approx(0.1 * evaluator.reference_seconds())


def test_measurements_outlive_the_process(tmp_path: Path) -> None:
    problem, machine = pretended()
    other = Plan.of(np.ones(problem.graph.op_count, np.int32))
    first = HardwareEvaluator.of(machine, on_one(problem), DiskCache(tmp_path)).measure([other])
    ran = len(machine.ran)
    again = HardwareEvaluator.of(machine, on_one(problem), DiskCache(tmp_path))
    assert again.measure([other]) == first
    assert len(machine.ran) == ran
    elsewhere = replace(again, machine="another", cache=DiskCache(tmp_path))
    elsewhere.measure([other])
    assert len(machine.ran) > ran
    against_itself = HardwareEvaluator.of(machine, other, DiskCache(tmp_path))
    assert against_itself.measure([other])[0].ratio == pytest.approx(1.0)
    assert len(DiskCache(tmp_path)) == 3
    assert not list(tmp_path.rglob("*.partial"))


def test_a_cache_forgets_failures_and_what_is_damaged(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    key, failed = ("graph", "reference", "plan", "ort-m"), ("graph", "reference", "other", "ort-m")
    cache[key] = MeasuredRatio(0.5)
    cache[failed] = MeasuredRatio(float("inf"), "killed")
    assert cache[failed].failure == "killed"
    assert dict(DiskCache(tmp_path)) == {key: MeasuredRatio(0.5)}
    (path,) = tmp_path.rglob("*.json")
    for text in ("{", "[]", '{"schema_version": 1}', '{"schema_version": 2, "ratio": 1}'):
        path.write_text(text, encoding="utf-8")
        assert key not in DiskCache(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    here = DiskCache(blocked)
    here[key] = MeasuredRatio(0.25)
    assert here[key].ratio == 0.25
    del cache[key]
    assert key not in DiskCache(tmp_path)


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/graphwright/measurements")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache/graphwright/measurements"


def test_search_follows_what_is_measured() -> None:
    problem, machine = pretended(1)
    evaluator = HardwareEvaluator.of(machine, on_one(problem))
    config = MeasuredSearchConfig(rounds=8, candidates=30, measured=4)
    found = measured_search(problem, evaluator, [on_one(problem)], config)
    assert found.ratio < found.started_from == pytest.approx(1.0)
    assert found.measured <= 1 + config.rounds * config.measured
    assert (found.plan.devices == 1).mean() > 0.5


def test_clusters_without_calibration_are_refused() -> None:
    problem, machine = pretended()
    machine.simulator = Simulator(problem.graph, core_cluster(), RooflineCosts())
    with pytest.raises(ClusterError, match="calibrate"):
        HardwareEvaluator.of(machine, on_one(problem))


def test_an_environment_takes_the_hardware_evaluator(tmp_path: Path) -> None:
    problem, machine = pretended()
    env = gymnasium.make(
        "graphwright/Placement-v0",
        problem=problem,
        make_evaluator=lambda problem: HardwareEvaluator.of(machine, on_one(problem)),
    )
    env.reset(seed=0)
    *_, info = env.step(np.ones(problem.graph.op_count, np.int64))
    assert info["failure"] is None
    assert len(machine.ran) > 2
    env.close()
