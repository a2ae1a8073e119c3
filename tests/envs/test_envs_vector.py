"""The batched environment: single environments, plan by plan, in one call of the evaluator."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from environment_samples import FixedEvaluator, two_chains
from graph_samples import random_graph, toy_cluster
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from envs import ActionError, BatchedEnv, EpisodeError, Episodes, GraphEnv, Task
from placement.problem import Problem
from simulator.evaluation import BatchEvaluation
from simulator.plan import Plan


def unlike_problems() -> Episodes:
    cluster = toy_cluster(2, 4000, 100.0)
    devices = tuple(replace(device, launch_seconds=0.25) for device in cluster.devices)
    cluster = replace(cluster, devices=devices)
    problems = [Problem(random_graph(seed, 40 + seed), cluster) for seed in range(3)]
    return Episodes(tuple(problems))


def same(first: Any, second: Any) -> bool:
    from gymnasium.utils.env_checker import data_equivalence

    return data_equivalence(first, second, exact=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 2, "start": "round-robin", "reward": "telescoping"},
        {"tasks": tuple(Task), "staged": True},
        {"tasks": (Task.FUSION,), "reward": "log-speedup"},
    ],
    ids=["placement", "refined", "joint", "fusion"],
)
def test_a_batch_equals_single_environments_plan_by_plan(settings: dict[str, Any]) -> None:
    count = 4
    batch = BatchedEnv(count, episodes=unlike_problems(), **settings)
    singles = [GraphEnv(episodes=unlike_problems(), **settings) for _ in range(count)]
    _, infos = batch.reset(seed=5)
    seen = [single.reset(seed=5) for single in singles]
    rng = np.random.default_rng(0)
    rewards_seen = set()
    for _ in range(2 * batch.rules.length + 1):
        assert infos["instance"].tolist() == [info["instance"] for _, info in seen]
        ops = batch.prepared.instance.problem.graph.op_count
        shape = (ops, 3) if len(batch.rules.tasks) > 1 else (ops,)
        # Level and device 2 does not exist: some placements are refused.
        actions = tuple(rng.integers(0, 2 + (rng.random() < 0.1), shape) for _ in range(count))
        _, rewards, ends, truncated, infos = batch.step(actions)
        assert not truncated.any()
        for index, single in enumerate(singles):
            _, reward, over, _, info = single.step(actions[index])
            assert rewards[index] == reward
            assert ends[index] == over
            rewards_seen.add(reward)
            told = infos["final_info"] if over else infos
            for key in ("makespan_seconds", "feasible", "failure", "plan", "portfolio_seconds"):
                assert told[key][index] == info[key]
            assert told["peak_bytes"][index].tolist() == info["peak_bytes"].tolist()
            if over:
                assert same(infos["final_obs"][index]["previous"], single.observation.previous)
                seen[index] = single.reset()
            assert same(batch.observations[index].ops, single.observation.ops)
            assert same(batch.observations[index].previous, single.observation.previous)
    # The devices of one plan leave few ops to fuse: fewer rewards than where devices change.
    assert len(rewards_seen) > (1 if settings.get("tasks") == (Task.FUSION,) else 2)


def test_episodes_end_and_begin_in_the_same_step() -> None:
    """Of each step of one-step episodes something is learned."""
    env = gymnasium.make_vec(
        "graphwright/Placement-v0", num_envs=3, vectorization_mode="vector_entry_point",
        graph=two_chains(), cluster=toy_cluster(2),
    )  # fmt: skip
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=0)
    actions = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [7, 0, 0, 0, 0]])
    for _ in range(3):
        observation, rewards, ends, _, infos = env.step(actions)
        assert rewards.tolist() == [-np.sqrt(5 / 3), -1.0, -8.0]
        assert ends.all()
        assert (observation["previous"] == -1).all()
        assert observation["steps_left"].tolist() == [1, 1, 1]
        assert infos["final_obs"][1]["previous"][:, 0].tolist() == [0, 0, 1, 1, 0]
        assert infos["final_info"]["failure"][2].startswith("illegal device")
        assert "failure" not in infos
    assert observation in env.observation_space


def test_observations_are_in_the_space_where_sizes_differ() -> None:
    env = BatchedEnv(2, episodes=unlike_problems())
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        assert observation in env.observation_space


def test_statistics_wrappers_work() -> None:
    env = RecordEpisodeStatistics(BatchedEnv(2, graph=two_chains(), cluster=toy_cluster(2)))
    env.reset(seed=0)
    _, _, _, _, infos = env.step(np.zeros((2, 5), int))
    assert infos["episode"]["l"].tolist() == [1, 1]


def test_all_plans_go_to_the_evaluator_in_one_call() -> None:
    calls: list[int] = []

    class Counting(FixedEvaluator):
        def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
            calls.append(len(plans))
            return super().evaluate_many(plans)

    env = BatchedEnv(5, graph=two_chains(), cluster=toy_cluster(2), make_evaluator=Counting)
    env.reset(seed=0)
    actions = np.zeros((5, 5), int)
    actions[2] = 1
    actions[4] = 9
    _, rewards, _, _, infos = env.step(actions)
    assert calls == [4]
    assert infos["final_info"]["makespan_seconds"].tolist() == [101.0] * 4 + [np.inf]
    assert rewards[4] == -8.0


def test_final_observations_can_be_left_out() -> None:
    settings: dict[str, Any] = {"graph": two_chains(), "cluster": toy_cluster(2)}
    env = BatchedEnv(2, final_observations=False, **settings)
    env.reset(seed=0)
    assert "final_obs" not in env.step(np.zeros((2, 5), int))[4]
    assert "final_obs" in _stepped(BatchedEnv(2, **settings))


def _stepped(env: BatchedEnv) -> dict[str, Any]:
    env.reset(seed=0)
    return env.step(np.zeros((2, 5), int))[4]


def test_seeds_reproduce_the_draws() -> None:
    def names(seed: int) -> list[str]:
        env = BatchedEnv(1, episodes=unlike_problems())
        _, infos = env.reset(seed=seed)
        found = [infos["instance"][0]]
        for _ in range(4):
            ops = env.prepared.instance.problem.graph.op_count
            found.append(env.step((np.zeros(ops, int),))[4]["instance"][0])
        return found

    assert names(1) == names(1)
    assert len({tuple(names(seed)) for seed in range(4)}) > 1


def test_every_plan_is_rendered() -> None:
    env = BatchedEnv(2, graph=two_chains(), cluster=toy_cluster(2), steps=2, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 0]]))
    first, second = env.render()
    assert first.startswith("sample on toy-2: 5 s")
    assert second.startswith("sample on toy-2: 3 s")


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(EpisodeError, match="num_envs=0"):
        BatchedEnv(0, graph=two_chains(), cluster=toy_cluster(2))
    env = BatchedEnv(2, graph=two_chains(), cluster=toy_cluster(2))
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        env.step(np.zeros((2, 5), int))
    env.reset()
    with pytest.raises(ActionError, match="3 actions for 2 environments"):
        env.step(np.zeros((3, 5), int))
