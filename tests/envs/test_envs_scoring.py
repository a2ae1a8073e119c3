"""Rewards by hand, and many decisions scored at once."""

import math
from typing import Any

import numpy as np
import pytest
from environment_samples import FixedEvaluator, two_chains, two_chains_instance
from graph_samples import graph_of, op, toy_cluster

from envs.decision import Decision
from envs.errors import ActionError, EpisodeError
from envs.instance import Instance
from envs.rewards import (
    Comparison,
    LogImprovement,
    LogSpeedup,
    Reward,
    SqrtTime,
    Telescoping,
    get_reward,
)
from envs.scoring import score
from graphs.kinds import OpKind
from placement.constraints import Constraints
from placement.problem import Problem
from simulator.fusion import greedy_groups
from simulator.plan import Plan


def devices(*values: int) -> Decision:
    return Decision(devices=np.array(values, np.int32))


def worth(
    reward: Reward, instance: Instance, *seconds: float, before: float = math.inf
) -> list[float]:
    times = np.array(seconds)
    mark = np.full(len(times), before)
    compared = Comparison(times, mark, np.log(times), np.log(mark))
    return reward(instance, compared).tolist()


def test_the_reference_is_the_portfolio() -> None:
    """Both chains at once take 2 s, and the op that joins them 1 s."""
    assert two_chains_instance().reference_seconds == 3.0


def test_the_reference_is_measured_where_the_evaluator_can() -> None:
    problem = Problem(two_chains(), toy_cluster(2))
    assert Instance("", problem, FixedEvaluator).reference_seconds == 102.0
    broken = Instance("", problem, lambda given: FixedEvaluator(given, refuses=True))
    assert broken.reference_seconds == 3.0


def test_square_root_of_time() -> None:
    instance = two_chains_instance()
    got = worth(SqrtTime(), instance, 3.0, 12.0, 5.0, math.inf)
    assert got == [-1.0, -2.0, -math.sqrt(5 / 3), -8.0]


def test_log_speedup() -> None:
    instance = two_chains_instance()
    got = worth(LogSpeedup(), instance, 3.0, 6.0, math.inf)
    assert got == [0.0, pytest.approx(-math.log(2)), -2 * math.log(16)]


@pytest.mark.parametrize("reward", [SqrtTime(), LogSpeedup(), Telescoping()])
def test_rewards_fall_with_the_energy_and_are_bounded(
    reward: SqrtTime | LogSpeedup | Telescoping,
) -> None:
    instance = two_chains_instance()
    worst, mark = 2 * reward.failure, math.log(3.0)
    # Slower and slower; then faster but over capacity, more and more; then what cannot run.
    fitting = [3.0, 20.0, 47.9, 48.1, 500.0]
    excess = [10 + 100 * share for share in (0.001, 0.01, 0.1, 1.0, 50.0)]
    energies = np.array([*np.log(fitting), *(mark + over for over in excess), math.inf])
    seconds = np.array([*fitting, *[math.inf] * (len(excess) + 1)])
    nothing = np.full(len(seconds), math.inf)
    found = reward(instance, Comparison(seconds, nothing, energies, nothing))
    assert (np.diff(found) < 0).all()
    assert found[-1] == worst < found[-2]
    assert found[2] == pytest.approx(found[3], abs=0.05)  # no leap at the slowest that counts


def test_improvements_of_an_episode_add_up() -> None:
    instance = two_chains_instance()
    assert worth(Telescoping(), instance, 4.0, 7.0, math.inf, before=5.0) == pytest.approx(
        [math.log(5 / 4), math.log(5 / 7), math.log(5 / 3) - 2 * math.log(16)]
    )
    total, last = 0.0, math.inf
    for seconds in (5.0, 6.0, 4.0, 3.5):
        total += worth(Telescoping(), instance, seconds, before=last)[0]
        last = seconds
    assert total == pytest.approx(math.log(3.0 / 3.5))


def test_improvements_of_a_plan_are_never_negative_and_bounded() -> None:
    instance = two_chains_instance()
    got = worth(LogImprovement(), instance, 4.9, 4.0, 5.0, 7.0, math.inf, before=5.0)
    assert got == [pytest.approx(math.log(5.0 / 4.9)), 0.05, 0.0, 0.0, 0.0]
    # Without a plan before: against the portfolio's 3 s, for better or worse.
    got = worth(LogImprovement(), instance, 2.0, 6.0, math.inf)
    assert got == [
        pytest.approx(math.log(3 / 2)), pytest.approx(-math.log(2)), -math.log(16)
    ]  # fmt: skip


def test_plans_have_energies() -> None:
    graph = graph_of(op("a", 1.0, resident_bytes=60), op("b", 1.0, resident_bytes=60))
    problem = Problem(graph, toy_cluster(2, memory_bytes=100))
    instance = Instance("tight", problem)
    base = instance.portfolio.plan
    chosen = [devices(0, 0), devices(0, 1), devices(0, 5)]
    scores = score(instance, chosen, base, LogImprovement(), energies_before=np.full(3, 0.02))
    over = math.log(2.0) + 10 + 100 * 20 / 200
    assert scores.energies.tolist() == [pytest.approx(over), 0.0, math.inf]
    assert scores.rewards.tolist() == [0.0, 0.02, 0.0]
    alone = [score(instance, [one], base, LogImprovement()).energies[0] for one in chosen]
    assert alone == scores.energies.tolist()
    assert [one and one.excess_bytes for one in scores.evaluations] == [20, 0, None]


def test_times_may_be_relative_to_another_plan() -> None:
    problem = Problem(two_chains(), toy_cluster(2))
    instance = Instance("marked", problem, given_mark=Plan.of(np.zeros(5, np.int32)))
    assert instance.reference_seconds == 5.0
    assert instance.reference_energy == math.log(5.0)
    scores = score(instance, [devices(0, 0, 0, 0, 0)], instance.mark, SqrtTime())
    assert scores.rewards.tolist() == [-1.0]


def test_unknown_rewards_are_refused() -> None:
    assert get_reward("telescoping") == Telescoping()
    assert get_reward(SqrtTime(-9.0)) == SqrtTime(-9.0)
    with pytest.raises(EpisodeError, match="there are sqrt-time, log-speedup, telescoping"):
        get_reward("profit")


def test_decisions_are_scored_by_hand() -> None:
    instance = two_chains_instance()
    base = instance.portfolio.plan
    scores = score(instance, [devices(0, 0, 0, 0, 0), devices(0, 0, 1, 1, 0)], base, SqrtTime())
    assert scores.makespan_seconds.tolist() == [5.0, 3.0]
    assert scores.rewards.tolist() == [-math.sqrt(5 / 3), -1.0]
    assert scores.failures == (None, None)
    assert scores.feasible.all()


def test_an_illegal_device_fails_and_the_rest_goes_on() -> None:
    graph = two_chains()
    problem = Problem(graph, toy_cluster(2), Constraints(pins={"b0": "d0"}))
    instance = Instance("pinned", problem)
    chosen = [devices(0, 0, 1, 1, 0), devices(0, 0, 0, 1, 0), devices(0, 0, 0, 7, 0)]
    scores = score(instance, chosen, instance.portfolio.plan, SqrtTime())
    assert scores.plans[0] is None and scores.plans[2] is None
    assert scores.makespan_seconds.tolist() == [math.inf, 4.0, math.inf]
    assert scores.rewards[[0, 2]].tolist() == [-8.0, -8.0]
    assert scores.failures[0] == "illegal device: op 'b0' may or can not run on d1"
    assert scores.failures[1] is None
    assert scores.failures[2] == "illegal device: op 'b1' on device 7; there are 0 to 1"


def test_only_the_first_op_of_a_unit_counts() -> None:
    graph = graph_of(op("a", 1.0, colocation="g"), op("b", 1.0, colocation="g"))
    instance = Instance("unit", Problem(graph, toy_cluster(2)))
    scores = score(instance, [devices(1, 99)], instance.portfolio.plan, SqrtTime())
    assert scores.plans[0] is not None
    assert scores.plans[0].devices.tolist() == [1, 1]


def test_too_little_memory_is_a_failure_with_its_reason() -> None:
    graph = graph_of(op("a", 1.0, resident_bytes=60), op("b", 1.0, resident_bytes=60))
    instance = Instance("tight", Problem(graph, toy_cluster(2, memory_bytes=100)))
    base = instance.portfolio.plan
    scores = score(instance, [devices(0, 0), devices(0, 1)], base, SqrtTime())
    assert scores.makespan_seconds.tolist() == [2.0, 1.0]
    assert scores.seconds.tolist() == [math.inf, 1.0]
    over = math.log(2) + 10 + 10 - math.log(16)  # twice the time, 20 of 200 bytes over capacity
    assert scores.rewards.tolist() == [pytest.approx(-4 * (1 + over / (over + 20))), -1.0]
    assert scores.peak_bytes[0].tolist() == [120, 0]
    assert scores.failures == ("d0 runs out of memory: peak 120 B of 100 B", None)


def test_undecided_tasks_come_from_the_base() -> None:
    instance = two_chains_instance()
    base = [Plan.of(np.array([0] * 5)), Plan.of(np.array([0, 0, 1, 1, 0]))]
    undecided = [Decision(), Decision()]
    scores = score(instance, undecided, base, SqrtTime())
    assert scores.makespan_seconds.tolist() == [5.0, 3.0]
    assert scores.plans == tuple(base)


def test_new_devices_drop_the_kernels_that_they_tear() -> None:
    soft = OpKind.ELEMENTWISE
    graph = graph_of(
        op("a", 1.0, (), 4, soft), op("b", 1.0, ("a",), 4, soft),
        op("c", 1.0, (), 4, soft), op("d", 1.0, ("c",), 4, soft),
    )  # fmt: skip
    instance = Instance("fused", Problem(graph, toy_cluster(2)))
    base = Plan.of(np.zeros(4, int), None, np.array([1, 1, 3, 3]))
    scores = score(instance, [devices(0, 1, 1, 1)], base, SqrtTime())
    assert scores.plans[0] is not None
    assert scores.plans[0].fusion.tolist() == [-1, -1, 3, 3]


def test_a_decision_of_another_size_is_an_error() -> None:
    instance = two_chains_instance()
    base = instance.portfolio.plan
    with pytest.raises(ActionError, match=r"shape \(4,\) for the 5 ops of graph 'sample'"):
        score(instance, [devices(0, 0, 0, 0)], base, SqrtTime())
    levels = Decision(schedule=np.full(5, 21, np.int32))
    with pytest.raises(ActionError, match="schedule: levels from 21 to 21; give levels from 0"):
        score(instance, [levels], base, SqrtTime())


def test_the_evaluator_is_whoever_is_given() -> None:
    instance = Instance("", Problem(two_chains(), toy_cluster(2)), FixedEvaluator)
    base = instance.portfolio.plan
    scores = score(instance, [devices(0, 0, 0, 0, 0)], base, SqrtTime())
    assert scores.makespan_seconds.tolist() == [101.0]
    refusing = Instance("", instance.problem, lambda given: FixedEvaluator(given, refuses=True))
    scores = score(refusing, [devices(0, 0, 0, 0, 0)], base, SqrtTime())
    assert scores.failures == ("the worker died",)
    assert scores.rewards.tolist() == [-8.0]
    both = score(refusing, [devices(0, 0, 0, 0, 0)] * 2, base, SqrtTime())
    assert both.failures == ("the plan could not run",) * 2


def test_what_does_not_change_from_plan_to_plan_is_worked_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fused: list[int] = []

    def counted(*given: Any) -> np.ndarray:
        fused.append(1)
        return greedy_groups(*given)

    monkeypatch.setattr("envs.decision.greedy_groups", counted)
    instance = two_chains_instance()
    levels = np.full(5, 10, np.int32)
    where = np.array([0, 0, 1, 1, 0], np.int32)
    scheduled = [Decision(where, np.full(5, level, np.int32), levels) for level in range(8)]
    scores = score(instance, scheduled, instance.portfolio.plan, SqrtTime())
    assert len(fused) == 1  # orders differ, kernels do not
    other = score(
        instance, [Decision(where, fusion=levels * 0)], instance.portfolio.plan, SqrtTime()
    )
    assert len(fused) == 2
    assert other.plans[0] is not None and scores.plans[0] is not None
    assert (other.plans[0].fusion == -1).all()
    problem = instance.problem
    assert problem.first_of_unit is problem.first_of_unit
