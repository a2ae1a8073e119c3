"""Where episodes begin, and going on from one of many."""

import math
from typing import Any

import numpy as np
import pytest
from environment_samples import two_chains
from graph_samples import graph_of, op, toy_cluster

from envs import BatchedEnv, EpisodeError, GraphEnv, Task
from envs.rules import Rules, begin, standing
from envs.tasks import FUSED_LEVEL, NEUTRAL_LEVEL
from graphs.kinds import OpKind
from placement.constraints import Constraints
from placement.problem import Problem
from simulator.plan import Plan

SPLIT = np.array([0, 0, 1, 1, 0])
ALONE = np.zeros(5, int)


def soft_chain() -> Problem:
    records = [op(f"e{i}", 1.0, (f"e{i - 1}",) if i else (), 4, OpKind.ELEMENTWISE)
               for i in range(4)]  # fmt: skip
    return Problem(graph_of(*records), toy_cluster(1))


def test_fusion_begins_with_everything_fused_that_may_be() -> None:
    env = GraphEnv(problem=soft_chain(), tasks=tuple(Task), start="portfolio")
    observation, _ = env.reset()
    assert observation["previous"].tolist() == [[0, NEUTRAL_LEVEL, FUSED_LEVEL]] * 4
    before = env.progress.plan
    assert before is not None
    assert len(set(before.fusion)) == 1 and before.is_fused
    # An action that repeats what stands changes nothing.
    standing_now = standing(env.progress, env.rules.tasks)
    env.rules = Rules(tuple(Task))
    action = np.stack([standing_now[task] for task in Task], axis=1)
    assert env.step(action)[4]["plan"] == before


def test_placement_begins_at_the_plan_itself() -> None:
    order = np.arange(5.0)
    env = GraphEnv(graph=two_chains(), cluster=toy_cluster(2), steps=2)
    plan = Plan.of(ALONE, order)
    observation, _ = env.reset(options={"start": plan})
    assert env.progress.plan == plan
    assert env.progress.energy == math.log(5.0)
    assert observation["previous"].tolist() == [[0, -1, -1]] * 5
    env.reset(options={"start": "portfolio"})
    assert env.progress.energy == math.log(3.0)
    env.reset()
    assert env.progress.plan is None and env.progress.energy == math.inf
    assert standing(env.progress, env.rules.tasks)[Task.PLACEMENT].tolist() == (
        env.prepared.instance.portfolio.plan.devices.tolist()
    )


def test_a_start_plan_keeps_to_the_constraints() -> None:
    problem = Problem(two_chains(), toy_cluster(2), Constraints(pins={"b0": "d0"}))
    env = GraphEnv(problem=problem)
    with pytest.raises(EpisodeError, match="the start plan has an illegal device: op 'b0'"):
        env.reset(options={"start": Plan.of(SPLIT)})
    with pytest.raises(EpisodeError, match="no episode has begun"):
        _ = env.progress


def test_all_go_on_from_the_best() -> None:
    env = BatchedEnv(
        2, graph=two_chains(), cluster=toy_cluster(2), steps=3, start="single",
        reward="log-improvement",
    )  # fmt: skip
    env.reset(seed=0)
    before = env.progress[0]
    _, rewards, ends, _, infos = env.step(np.array([ALONE, SPLIT]))
    assert infos["energy"].tolist() == [math.log(5.0), math.log(3.0)]
    assert rewards.tolist() == [0.0, 0.05]
    observation = env.go_on_from(env.progress[1])
    assert observation["previous"][:, :, 0].tolist() == [SPLIT.tolist()] * 2
    _, rewards, ends, _, _ = env.step(np.array([ALONE, SPLIT]))
    assert rewards.tolist() == [0.0, 0.0]
    assert not ends.any()
    # The state before, but not the steps before.
    assert env.go_on_from(before)["steps_left"].tolist() == [1, 1]
    assert env.progress[0].energy == math.log(5.0)
    assert env.step(np.array([ALONE, SPLIT]))[2].all()


def test_nothing_to_go_on_from() -> None:
    settings: dict[str, Any] = {"graph": two_chains(), "cluster": toy_cluster(2)}
    other = GraphEnv(**settings)
    other.reset()
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        BatchedEnv(2, **settings).go_on_from(other.progress)


def test_scheduling_alone_keeps_the_start_plans_devices() -> None:
    env = GraphEnv(graph=two_chains(), cluster=toy_cluster(2), tasks=(Task.SCHEDULING,))
    env.reset()
    start = begin(env.prepared, env.rules, Plan.of(ALONE))
    assert start.plan is not None
    assert start.plan.devices.tolist() == ALONE.tolist()
    assert start.decided.devices is None
    assert set(standing(start, env.rules.tasks)) == {Task.SCHEDULING}
