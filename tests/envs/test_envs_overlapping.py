"""Environments of steps that overlap: plans are worth their period."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph, toy_cluster

import envs  # noqa: F401 - registers the ids
from envs.environment import GraphEnv
from envs.episodes import episodes_from
from envs.errors import EpisodeError
from envs.instance import Instance
from envs.overlapping import OverlapEvaluator
from envs.vector import BatchedEnv
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from placement.problem import Problem
from placement.throughput import Throughput
from simulator.errors import OrderError, PlanError
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation

FAST = 1e12
HALVES = np.repeat([0, 1], 4).astype(np.int32)
ALONE = np.zeros(8, np.int32)


def chain(output_bytes: int = 100) -> Graph:
    """Eight ops of a second each: a step takes 8 s anywhere, two devices end one every 4 s."""
    names = [f"a{i}" for i in range(8)]
    return graph_of(
        *(op(name, 1, (names[i - 1],) if i else (), output_bytes) for i, name in enumerate(names))
    )


def training_step() -> Graph:
    back, update = Phase.BACKWARD, Phase.UPDATE
    return graph_of(
        op("f0", 1, (), 100),
        op("f1", 1, ("f0",), 100),
        op("b1", 1, ("f1",), 100, phase=back),
        op("b0", 1, ("b1", "f0"), 100, phase=back),
        op("u0", 1, ("b0",), kind=OpKind.OPTIMIZER_UPDATE, phase=update),
    )


def throughput_env(graph: Graph, memory_bytes: int = 1 << 40, **settings: Any) -> GraphEnv:
    cluster = toy_cluster(2, memory_bytes, bytes_per_second=FAST)
    return GraphEnv(graph=graph, cluster=cluster, objective="throughput", **settings)


@pytest.mark.parametrize(
    ("reward", "worth"),
    [("sqrt-time", -np.sqrt(2)), ("log-speedup", -np.log(2)), ("telescoping", -np.log(2))],
)
def test_a_chain_is_worth_its_period(reward: str, worth: float) -> None:
    env = throughput_env(chain(), in_flight=4, reward=reward)
    observation, info = env.reset(seed=0)
    # The mark is the cut in two halves, though no heuristic for one step makes it.
    assert info["objective"] == "throughput"
    assert info["portfolio_seconds"] == pytest.approx(4.0, rel=1e-6)
    assert info["bound_seconds"] == pytest.approx(4.0, rel=1e-6)
    _, got, _, _, info = env.step(ALONE)
    assert info["period_seconds"] == info["makespan_seconds"] == pytest.approx(8.0)
    assert got == pytest.approx(worth, rel=1e-6)
    env.reset(seed=0)
    _, best, _, _, info = env.step(HALVES)
    assert info["period_seconds"] == pytest.approx(4.0, rel=1e-6)
    assert best == pytest.approx({"sqrt-time": -1.0}.get(reward, 0.0), abs=1e-6)
    # The trace still shows one step.
    assert info["trace"]().makespan_seconds == pytest.approx(8.0, rel=1e-6)
    latency = GraphEnv(graph=chain(), cluster=toy_cluster(2, bytes_per_second=FAST), reward=reward)
    seen, info = latency.reset(seed=0)
    assert "period_seconds" not in latency.step(HALVES)[-1]
    assert info["portfolio_seconds"] == pytest.approx(8.0)
    assert set(seen) == set(observation)
    assert all(np.array_equal(seen[key], observation[key]) for key in ("global", "pairs", "legal"))


def test_registered_ids_keep_latency_and_take_the_objective() -> None:
    graph, cluster = chain(), toy_cluster(2, bytes_per_second=FAST)
    plain = gymnasium.make("graphwright/Placement-v0", graph=graph, cluster=cluster)
    assert plain.reset(seed=0)[1]["objective"] == "latency"
    asked = gymnasium.make(
        "graphwright/Placement-v0", graph=graph, cluster=cluster, objective="throughput"
    )
    asked.reset(seed=0)
    assert asked.step(HALVES)[-1]["period_seconds"] == pytest.approx(4.0, rel=1e-6)


def fastest(
    problem: Problem, plan: Plan, steps: int, in_flight: int, *orders: StepOrder
) -> StepsEvaluation:
    """Of the orders in which a plan does not stop, the one that takes least time and fits."""
    found = []
    for order in orders:
        try:
            schedule = StepSchedule(steps, in_flight, order)
            found.append(problem.simulator.evaluate_steps(plan, schedule))
        except OrderError:
            continue
    return min(found, key=lambda item: (not item.feasible, item.makespan_seconds))


@pytest.mark.parametrize("seed", range(2))
def test_rewards_are_those_of_the_engines_periods(seed: int) -> None:
    graph = random_graph(seed, 24)
    cluster = toy_cluster(3, bytes_per_second=50.0)
    problem = Problem(graph, cluster)
    settings: dict[str, Any] = {
        "problem": problem, "objective": "throughput", "in_flight": 3, "micro_batches": 5,
    }  # fmt: skip
    batched = BatchedEnv(num_envs=6, final_observations=False, **settings)
    single = GraphEnv(**settings)
    batched.reset(seed=0)
    mark = batched.prepared.instance.reference_seconds
    actions = np.random.default_rng(seed).integers(0, 3, (6, graph.op_count)).astype(np.int32)
    _, rewards, _, _, infos = batched.step(actions)
    plans = list(infos["final_info"]["plan"])
    for number, plan in enumerate(plans):
        single.reset(seed=0)
        _, reward, _, _, info = single.step(actions[number])
        found = fastest(problem, plan, 5, 3, StepOrder.ONE_F_ONE_B, StepOrder.OLDEST_FIRST)
        assert info["period_seconds"] == found.makespan_seconds / 5
        assert info["feasible"] == found.feasible
        assert tuple(info["peak_bytes"]) == found.peak_bytes
        assert reward == rewards[number] == -np.sqrt(info["period_seconds"] / mark)


def test_no_period_is_shorter_than_the_load_of_the_busiest_device() -> None:
    names = [f"op{i}" for i in range(6)]
    graph = graph_of(
        *(op(name, 1, (names[i - 1],) if i else (), 1) for i, name in enumerate(names))
    )
    problem = Problem(graph, toy_cluster(2, bytes_per_second=2.0))
    evaluator = OverlapEvaluator(problem, Throughput(3))
    too_short = 0
    for number in range(64):
        plan = Plan.of(np.array([number >> i & 1 for i in range(6)], np.int32))
        found = evaluator.steps(plan)
        load = max(np.bincount(plan.devices, minlength=2))
        too_short += found.period_seconds < load * (1 - 1e-9)
        assert evaluator.evaluate(plan).makespan_seconds >= load
    assert too_short  # what the last steps of a run come to, which the evaluator does not believe


def test_the_mark_is_the_best_by_period_and_does_not_depend_on_the_clock() -> None:
    graph = random_graph(3, 30)
    forward = replace(graph, phases=np.zeros_like(graph.phases))
    problem = Problem(forward, toy_cluster(3, bytes_per_second=50.0))
    first, again = (Instance("", problem, overlap=Throughput(4)) for _ in range(2))
    plans = first.heuristic_plans
    assert [item.plan for item in plans] == [item.plan for item in again.heuristic_plans]
    assert {"equal layers", "contiguous"} & {item.origin for item in plans}
    assert all("search" not in item.origin for item in plans)
    periods = [item.evaluation.makespan_seconds for item in plans]
    assert first.reference_seconds == periods[0] == min(periods)
    assert first.bound_seconds <= min(periods) * (1 + 1e-9)
    one_step = [problem.simulator.evaluate(item.plan).makespan_seconds for item in plans]
    assert one_step != periods


def test_memory_is_that_of_all_steps_on_the_way() -> None:
    graph = graph_of(
        op("x", 0, (), 300, kind=OpKind.CONSTANT), op("a", 1, ("x",), 1), op("b", 1, ("a",), 1)
    )
    action = np.array([0, 0, 1], np.int32)
    asked = throughput_env(graph, 1000, in_flight=8)
    asked.reset(seed=0)
    _, reward, _, _, info = asked.step(action)
    assert not info["feasible"]
    assert "out of memory" in info["failure"]
    assert -8.0 < reward < -4.0
    assert info["peak_bytes"][0] > 8 * 300
    assert info["energy"] > 10
    left_open = throughput_env(graph, 1000)
    left_open.reset(seed=0)
    info = left_open.step(action)[-1]
    assert info["feasible"]
    assert 3 * 300 <= info["peak_bytes"][0] <= 1000


def test_a_training_step_is_cut_into_micro_batches() -> None:
    env = throughput_env(training_step(), micro_batches=4)
    env.reset(seed=0)
    info = env.step(np.array([0, 1, 1, 0, 0], np.int32))[-1]
    problem = Problem(training_step(), toy_cluster(2, bytes_per_second=FAST))
    found = fastest(problem, info["plan"], 4, 4, *StepOrder)
    # A share of the whole step, in which the pipeline fills and drains and the update runs once.
    assert info["period_seconds"] == found.makespan_seconds / 4
    assert 2.0 < info["period_seconds"] < 4.0
    with pytest.raises(EpisodeError, match="cut the step into micro-batches"):
        throughput_env(training_step()).reset(seed=0)
    # Graphs that update nothing serve requests, so that suites may have both.
    request = throughput_env(chain(), micro_batches=4)
    request.reset(seed=0)
    assert request.step(HALVES)[-1]["period_seconds"] == pytest.approx(4.0, rel=1e-6)


def test_a_plan_that_stops_in_an_order_runs_in_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = Problem(training_step(), toy_cluster(2, bytes_per_second=FAST))
    run = Simulator.evaluate_steps

    def stops(simulator: Simulator, plan: Plan, schedule: StepSchedule) -> StepsEvaluation:
        if schedule.order == StepOrder.ONE_F_ONE_B:
            raise OrderError("came to a stop")
        return run(simulator, plan, schedule)

    monkeypatch.setattr(Simulator, "evaluate_steps", stops)
    evaluator = OverlapEvaluator(problem, Throughput(micro_batches=4))
    found = evaluator.steps(Plan.of(np.array([0, 1, 1, 0, 0], np.int32)))
    assert found.schedule.order != StepOrder.ONE_F_ONE_B
    with pytest.raises(PlanError):
        evaluator.steps(Plan.of(np.zeros(3, np.int32)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "speed"}, "there are latency, throughput"),
        ({"in_flight": 2}, "give objective='throughput'"),
        ({"micro_batches": 2}, "give objective='throughput'"),
        (
            {"objective": "throughput", "make_evaluator": lambda problem: problem.simulator},
            "leave make_evaluator out",
        ),
    ],
)
def test_objectives_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EpisodeError, match=message):
        GraphEnv(graph=chain(), cluster=toy_cluster(2), **settings)
    episodes = episodes_from(graph=chain(), cluster=toy_cluster(2))
    with pytest.raises(EpisodeError, match="an objective of their own"):
        GraphEnv(episodes=episodes, objective="throughput")
