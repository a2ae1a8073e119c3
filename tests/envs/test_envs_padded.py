"""Fixed-size arrays for others' agents, and an agent of Stable-Baselines3 that learns on them."""

import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from environment_samples import two_chains, two_chains_instance
from graph_samples import random_graph, toy_cluster
from stable_baselines3.common.env_checker import check_env

from envs import EpisodeError, Episodes, GraphEnv, Task
from envs.padded import PaddedEnv
from placement.constraints import Constraints
from placement.problem import Problem

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "sb3_placement.py"


def padded(max_ops: int = 7, max_devices: int = 3, **settings: Any) -> PaddedEnv:
    if "episodes" not in settings and "problem" not in settings:
        settings = {"graph": two_chains(), "cluster": toy_cluster(2), **settings}
    return PaddedEnv(GraphEnv(**settings), max_ops, max_devices)


@pytest.mark.parametrize(
    "settings",
    [{}, {"steps": 2, "start": "portfolio"}, {"tasks": tuple(Task), "staged": True}],
    ids=["placement", "refined", "joint"],
)
def test_stable_baselines_finds_no_fault(settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(padded(**settings))


def test_padding_is_zero_and_not_read() -> None:
    env = padded()
    observation, _ = env.reset(seed=0)
    rows = observation["ops"].reshape(7, -1)
    assert rows[:, -1].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert not rows[5:].any()
    assert not observation["devices"].reshape(3, -1)[2].any()
    observation, reward, _, _, info = env.step(np.array([0, 0, 1, 1, 0, 2, 2]))
    assert (reward, info["makespan_seconds"]) == (-1.0, 3.0)
    assert info["plan"].devices.tolist() == [0, 0, 1, 1, 0]


def test_columns_are_those_of_the_observation() -> None:
    env = padded(steps=2)
    env.reset(seed=0)
    observation, _, _, _, _ = env.step(np.array([0, 0, 1, 1, 0, 0, 0]))
    seen = env.graph_env.observation
    rows = observation["ops"].reshape(7, -1)[:5]
    columns = seen.ops.shape[1]
    assert (rows[:, :columns] == seen.ops).all()
    of_pairs = rows[:, columns:-1].reshape(5, 3, -1)
    assert (of_pairs[:, :2, :-2] == seen.pairs).all()
    assert (of_pairs[:, :2, -2] == seen.legal).all()
    assert of_pairs[:, :2, -1].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]
    assert not of_pairs[:, 2].any()
    assert observation["global"][-1] == 0.5


def test_masks_tell_which_devices_are_legal() -> None:
    problem = Problem(two_chains(), toy_cluster(2), Constraints(pins={"b0": "d1"}))
    env = padded(problem=problem)
    env.reset(seed=0)
    mask = env.action_masks().reshape(7, 3)
    assert mask[:5].tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert mask[5:].tolist() == [[1, 0, 0]] * 2
    joint = padded(tasks=tuple(Task))
    joint.reset(seed=0)
    assert isinstance(joint.action_space, gymnasium.spaces.MultiDiscrete)
    assert joint.action_masks().shape == (joint.action_space.nvec.sum(),)


def test_a_device_of_the_padding_is_illegal() -> None:
    env = padded()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.full(7, 2))
    assert reward == -8.0
    assert info["failure"].startswith("illegal device")


def test_joint_actions_are_read_op_by_op() -> None:
    env = padded(tasks=tuple(Task))
    env.reset(seed=0)
    action = np.zeros((7, 3), int)
    action[:, 0], action[:, 1] = [0, 0, 1, 1, 0, 0, 0], 10
    assert env.step(action.ravel())[1] == -1.0


def test_graphs_of_many_sizes() -> None:
    problems = [Problem(random_graph(seed, 5 + seed), toy_cluster(1 + seed)) for seed in range(3)]
    env = padded(episodes=Episodes(tuple(problems)))
    sizes = set()
    for pair in range(3):
        observation, _ = env.reset(options={"pair": pair})
        assert observation in env.observation_space
        sizes.add(observation["ops"].reshape(7, -1)[:, -1].sum())
    assert sizes == {5, 6, 7}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(EpisodeError, match="a graph of 5 ops for max_ops=4"):
        padded(max_ops=4)
    with pytest.raises(EpisodeError, match="up to 2 devices for max_devices=1"):
        padded(max_devices=1)
    problems = tuple(Problem(random_graph(0, ops), toy_cluster(1)) for ops in (5, 30))
    env = padded(episodes=Episodes(problems))
    with pytest.raises(EpisodeError, match="a graph of 30 ops for max_ops=7"):
        env.reset(options={"pair": 1})
    with pytest.raises(EpisodeError, match="give an environment of this package"):
        PaddedEnv(gymnasium.make("CartPole-v1"))


def test_the_portfolio_of_the_sample_is_optimal() -> None:
    """So that a reward of -1 above means what it says."""
    instance = two_chains_instance()
    assert instance.reference_seconds == instance.problem.bounds.seconds


@pytest.mark.slow
def test_somebody_elses_agent_learns() -> None:
    spec = importlib.util.spec_from_file_location("sb3_placement", EXAMPLE)
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    sys.modules["sb3_placement"] = example
    spec.loader.exec_module(example)
    outcome = example.run(steps=1024)
    assert outcome.learned < 0.9 * outcome.random
    assert outcome.portfolio <= outcome.learned
