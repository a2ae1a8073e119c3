"""Environments: Gymnasium's own checks, and what each step says, by hand."""

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import pytest
from environment_samples import FixedEvaluator, two_chains
from graph_samples import graph_of, op, random_graph, toy_cluster
from gymnasium.utils.env_checker import check_env

from envs import IDS, ActionError, BatchedEnv, EpisodeError, Episodes, GraphEnv, register
from envs.rewards import Telescoping
from envs.tasks import LEVELS, NEUTRAL_LEVEL, Task
from placement.constraints import Constraints
from placement.problem import Problem
from placement.suites import Headroom, Pair
from simulator.errors import ClusterError

SPLIT = np.array([0, 0, 1, 1, 0])
ALONE = np.zeros(5, int)


def make(name: str, **settings: Any) -> gymnasium.Env:
    """An environment on the two chains, as a user would make it."""
    defaults = {} if "problem" in settings else {"graph": two_chains(), "cluster": toy_cluster(2)}
    return gymnasium.make(f"graphwright/{name}-v0", **{**defaults, **settings})


def inner(env: gymnasium.Env) -> GraphEnv:
    """Our own environment inside of Gymnasium's wrappers."""
    found = env.unwrapped
    assert isinstance(found, GraphEnv)
    return found


@pytest.mark.parametrize("name", ["Placement", "Scheduling", "Fusion", "Joint"])
@pytest.mark.parametrize(
    "settings",
    [{"render_mode": "ansi"}, {"steps": 2, "start": "portfolio", "render_mode": "rgb_array"}],
    ids=["one-step", "refined"],
)
def test_gymnasium_finds_no_fault(name: str, settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(name, **settings).unwrapped)


def of_two_sizes() -> Episodes:
    """Graphs of 6 and 7 ops on 2 and 3 devices, of which the last is not for all ops."""
    rules = Constraints(forbidden={"op[0-3]": ("d1",)})
    small = [
        Problem(random_graph(seed, 6 + seed, groups=False), toy_cluster(2 + seed), rules)
        for seed in range(2)
    ]
    return Episodes(tuple(small))


@pytest.mark.parametrize("name", ["Placement", "Scheduling", "Joint"])
def test_gymnasium_finds_no_fault_where_sizes_differ(name: str) -> None:
    made = make(name, graph=None, cluster=None, episodes=of_two_sizes(), steps=2)
    env = made.unwrapped
    assert isinstance(env, GraphEnv)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes = set()
        for seed in range(12):
            observation, _ = env.reset(seed=seed)
            assert observation in env.observation_space
            ops = len(observation["kinds"])
            sizes.add((ops, observation["legal"].shape[1]))
            action = env.action_space.sample()
            assert action.shape == ((ops, 3) if name == "Joint" else (ops,))
            assert action in env.action_space
            observation, *_, info = env.step(action)
            assert observation in env.observation_space
            assert "device" not in str(info["failure"] or "")
        # One check takes an action, resets with a seed and then steps: with two pairs the graph is
        # the same before and after.
        check_env(env)
    assert sizes == {(6, 3), (7, 3)}


def test_samples_of_a_batch_are_of_its_graph_and_differ() -> None:
    batch = BatchedEnv(3, episodes=of_two_sizes())
    sizes, differing = set(), 0
    for seed in range(8):
        batch.reset(seed=seed)
        actions = batch.action_space.sample()
        differing += (actions[0] != actions[1]).any() or (actions[0] != actions[2]).any()
        batch.step(actions)
        sizes.add(len(actions[0]))
    assert sizes == {6, 7}
    assert differing > 4


def test_samples_are_legal_and_follow_the_seed() -> None:
    env = GraphEnv(episodes=of_two_sizes())
    env.reset(seed=0)
    env.action_space.seed(4)
    first = [env.action_space.sample() for _ in range(50)]
    legal = env.observation.legal
    assert all(legal[np.arange(len(one)), one].all() for one in first)
    assert {int(device) for one in first for device in one} == set(range(legal.shape[1]))
    env.action_space.seed(4)
    assert all((env.action_space.sample() == one).all() for one in first)


def test_a_sample_of_another_graph_is_refused() -> None:
    env = GraphEnv(episodes=of_two_sizes())
    env.reset(options={"pair": 0})
    action = env.action_space.sample()
    env.reset(options={"pair": 1})
    with pytest.raises(ActionError, match="the graph has 7 ops"):
        env.step(action)


def test_registering_twice_changes_nothing() -> None:
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert gymnasium.registry == before
    assert set(IDS) <= set(before)
    assert all(before[name] is gymnasium.registry[name] for name in IDS)


def test_importing_costs_little() -> None:
    code = (
        "import sys, envs; "
        "print([n for n in ('torch', 'matplotlib', 'onnx', 'stable_baselines3') if n in "
        "sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_placement_by_hand() -> None:
    env = make("Placement")
    observation, info = env.reset(seed=0)
    assert info == {
        "instance": "sample on toy-2", "objective": "latency", "bound_seconds": 3.0,
        "portfolio_seconds": 3.0,
    }  # fmt: skip
    assert (observation["previous"] == -1).all()
    assert observation["tasks"].tolist() == [1, 0, 0]
    assert observation["steps_left"] == 1
    observation, reward, terminated, truncated, info = env.step(ALONE)
    assert reward == -math.sqrt(5 / 3)
    assert (terminated, truncated) == (True, False)
    assert info["makespan_seconds"] == 5.0
    assert info["feasible"] and info["failure"] is None
    assert info["peak_bytes"].tolist() == [0, 0]
    assert info["trace"]().makespan_seconds == 5.0
    assert observation["previous"].tolist() == [[0, -1, -1]] * 5
    assert observation["steps_left"] == 0
    env.reset()
    assert env.step(SPLIT)[1] == -1.0


def test_a_step_after_the_last_is_an_error() -> None:
    env = make("Placement").unwrapped
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        env.step(ALONE)
    env.reset()
    env.step(ALONE)
    with pytest.raises(EpisodeError, match="the episode is over"):
        env.step(ALONE)


def test_refinement_observes_the_plan_before() -> None:
    env = make("Placement", steps=2, reward="telescoping")
    env.reset(seed=0)
    observation, first, terminated, _, _ = env.step(ALONE)
    assert not terminated
    assert observation["previous"][:, 0].tolist() == ALONE.tolist()
    assert inner(env).observation.previous[:, 0].tolist() == ALONE.tolist()
    assert inner(env).observation.graph[-5] == 1.0  # a plan has run
    observation, second, terminated, _, _ = env.step(SPLIT)
    assert terminated
    assert observation["previous"][:, 0].tolist() == SPLIT.tolist()
    assert first == pytest.approx(math.log(3 / 5))
    assert second == pytest.approx(math.log(5 / 3))


def test_a_start_plan_is_observed_and_is_the_mark() -> None:
    env = make("Placement", start="single", reward=Telescoping())
    observation, _ = env.reset(seed=0)
    assert len(set(observation["previous"][:, 0])) == 1
    assert env.step(SPLIT)[1] == pytest.approx(math.log(5 / 3))


def test_too_little_memory_is_penalised_and_explained() -> None:
    graph = graph_of(op("a", 1.0, resident_bytes=60), op("b", 1.0, resident_bytes=60))
    env = make("Placement", graph=graph, cluster=toy_cluster(2, memory_bytes=100), steps=2)
    env.reset(seed=0)
    observation, reward, _, _, info = env.step(np.array([0, 0]))
    assert -8.0 < float(reward) < -4.0
    assert info["failure"] == "d0 runs out of memory: peak 120 B of 100 B"
    assert info["makespan_seconds"] == 2.0
    assert not info["feasible"]
    assert info["peak_bytes"].tolist() == [120, 0]
    assert observation["previous"][:, 0].tolist() == [0, 0]


def test_an_illegal_device_is_a_failed_step() -> None:
    problem = Problem(two_chains(), toy_cluster(2), Constraints(pins={"b0": "d0"}))
    env = make("Placement", problem=problem, steps=2)
    observation, _ = env.reset(seed=0)
    assert observation["legal"].tolist() == [[1, 1], [1, 1], [1, 0], [1, 1], [1, 1]]
    observation, reward, terminated, _, info = env.step(SPLIT)
    assert reward == -8.0
    assert info["failure"] == "illegal device: op 'b0' may or can not run on d1"
    assert info["plan"] is None and info["trace"] is None
    assert not terminated
    assert (observation["previous"] == -1).all()
    _, reward, terminated, _, info = env.step(ALONE)
    assert info["makespan_seconds"] == 5.0
    assert terminated


def test_a_refused_decision_leaves_the_plan_as_it_was() -> None:
    env = make("Placement", steps=2)
    env.reset(seed=0)
    env.step(SPLIT)
    observation, _, _, _, info = env.step(np.array([0, 0, 5, 0, 0]))
    assert info["failure"].startswith("illegal device: op 'b0' on device 5")
    assert observation["previous"][:, 0].tolist() == SPLIT.tolist()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(4, int), r"shape \(4,\); the graph has 5 ops .* give shape \(5,\)"),
        (np.zeros((5, 3), int), r"shape \(5, 3\); the graph has 5 ops"),
        (np.zeros(5), "an action of float64; give integers"),
    ],
)
def test_an_action_of_another_kind_is_an_error(action: np.ndarray, message: str) -> None:
    env = make("Placement")
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)


def test_scheduling_orders_ops_on_top_of_the_portfolios_devices() -> None:
    """One device: a short op that feeds nothing before or after a long chain."""
    graph = graph_of(op("short", 1.0), op("far", 2.0), op("last", 4.0, ("far",), 0))
    env = make("Scheduling", graph=graph, cluster=toy_cluster(1))
    env.reset(seed=0)
    neutral = np.full(3, NEUTRAL_LEVEL)
    _, _, _, _, info = env.step(neutral)
    assert info["trace"]().start.tolist() == [6.0, 0.0, 2.0]
    env.reset()
    first = neutral.copy()
    first[0] = LEVELS - 1
    observation, _, _, _, info = env.step(first)
    assert info["trace"]().start.tolist() == [0.0, 1.0, 3.0]
    assert observation["previous"][:, 1].tolist() == first.tolist()
    env.reset()
    with pytest.raises(ActionError, match="levels from 10 to 21"):
        env.step(neutral + np.array([0, 0, 11]))


def test_fusion_makes_kernels_on_top_of_the_portfolios_devices() -> None:
    from graphs.kinds import OpKind

    pointwise = OpKind.ELEMENTWISE
    graph = graph_of(
        op("a", 1.0, (), 8, pointwise), op("b", 1.0, ("a",), 8, pointwise),
        op("c", 1.0, ("b",), 8, pointwise),
    )  # fmt: skip
    env = make("Fusion", graph=graph, cluster=toy_cluster(1))
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([0, 3, 0]))
    assert info["plan"].fusion.tolist() == [-1, 2, 2]
    assert info["trace"]().graph.op_count == 2


def test_staged_joint_decisions_see_those_before() -> None:
    env = make("Joint", start="none")
    observation, _ = env.reset(seed=0)
    assert observation["tasks"].tolist() == [1, 0, 0]
    action = np.zeros((5, 3), int)
    action[:, 0] = SPLIT
    action[:, 1] = 999  # not read in this step
    observation, reward, over, _, info = env.step(action)
    assert (reward, over) == (-1.0, False)
    assert observation["tasks"].tolist() == [0, 1, 0]
    assert observation["previous"].tolist() == [[device, -1, -1] for device in SPLIT]
    assert inner(env).observation.graph[-5] == 1.0
    action[:, 0] = 77  # decided already
    action[:, 1] = 4
    observation, _, over, _, info = env.step(action)
    assert not over
    assert observation["tasks"].tolist() == [0, 0, 1]
    assert observation["previous"].tolist() == [[device, 4, -1] for device in SPLIT]
    assert info["plan"].devices.tolist() == SPLIT.tolist()
    action[:, 2] = 2
    observation, _, over, _, info = env.step(action)
    assert over
    assert observation["previous"].tolist() == [[device, 4, 2] for device in SPLIT]
    assert observation["tasks"].tolist() == [0, 0, 0]


def test_a_second_round_begins_from_the_first() -> None:
    env = make("Joint", steps=2)
    env.reset(seed=0)
    action = np.stack([SPLIT, np.full(5, 4), np.full(5, 2)], axis=1)
    for _ in range(3):
        observation, _, over, _, _ = env.step(action)
    assert not over
    action[:, 0] = ALONE
    observation, _, _, _, info = env.step(action)
    assert observation["previous"].tolist() == [[0, 4, 2]] * 5
    assert info["plan"].devices.tolist() == ALONE.tolist()


def test_a_refused_decision_is_forgotten() -> None:
    """The steps after it decide on top of the devices before it."""
    env = make("Joint", steps=2)
    env.reset(seed=0)
    action = np.stack([SPLIT, np.full(5, 4), np.full(5, 2)], axis=1)
    for _ in range(3):
        env.step(action)
    action[:, 0] = 9
    assert env.step(action)[4]["failure"].startswith("illegal device")
    _, _, _, _, info = env.step(action)
    assert info["failure"] is None
    assert info["plan"].devices.tolist() == SPLIT.tolist()


def test_each_plan_counts_against_the_one_before_it() -> None:
    env = make("Placement", steps=4, reward="telescoping")
    env.reset(seed=0)
    rewards = [env.step(action)[1] for action in (ALONE, SPLIT, ALONE, SPLIT)]
    faster = math.log(5 / 3)
    assert rewards == pytest.approx([-faster, faster, -faster, faster])


def test_scheduling_on_top_of_a_start_plan() -> None:
    env = make("Scheduling", start="single")
    env.reset(seed=0)
    info = env.step(np.full(5, NEUTRAL_LEVEL))[4]
    assert len(set(info["plan"].devices)) == 1
    assert info["makespan_seconds"] == 5.0


def test_joint_decisions_at_once() -> None:
    env = make("Joint", staged=False)
    observation, _ = env.reset(seed=0)
    assert observation["tasks"].tolist() == [1, 1, 1]
    action = np.stack([SPLIT, np.full(5, NEUTRAL_LEVEL), np.zeros(5, int)], axis=1)
    observation, reward, over, _, _ = env.step(action)
    assert (reward, over) == (-1.0, True)
    assert observation["previous"].tolist() == action.tolist()


def test_seeds_reproduce_draws_and_rewards() -> None:
    def run(seed: int) -> list[tuple[str, SupportsFloat]]:
        pairs = [Pair(f"rnnlm:{index}:100", "2xv100-pcie", Headroom.NONE) for index in range(8)]
        env = gymnasium.make("graphwright/Placement-v0", pairs=pairs).unwrapped
        rows = []
        observation, info = env.reset(seed=seed)
        for _ in range(3):
            choices = env.np_random.integers(0, 2, len(observation["kinds"]))
            rows.append((info["instance"], env.step(choices)[1]))
            observation, info = env.reset()
        return rows

    first = run(3)
    assert first == run(3)
    assert first != run(4)
    assert len({name for name, _ in first}) > 1


def test_the_evaluator_is_whoever_is_given() -> None:
    env = make("Placement", make_evaluator=FixedEvaluator, reward="log-speedup")
    _, info = env.reset(seed=0)
    assert info["portfolio_seconds"] == 102.0
    _, reward, _, _, info = env.step(ALONE)
    assert info["makespan_seconds"] == 101.0
    assert reward == pytest.approx(math.log(102 / 101))


def test_a_plan_that_never_ran_is_not_observed() -> None:
    def refusing(problem: Problem) -> FixedEvaluator:
        return FixedEvaluator(problem, refuses=True)

    env = make("Placement", make_evaluator=refusing)
    env.reset(seed=0)
    observation, reward, _, _, info = env.step(ALONE)
    assert (reward, info["failure"], info["trace"]) == (-8.0, "the worker died", None)
    assert (observation["previous"] == -1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0: an episode takes at least one step"),
        ({"tasks": (Task.FUSION, Task.FUSION)}, "name each task once"),
        ({"reward": "profit"}, "unknown reward 'profit'"),
        ({"render_mode": "human"}, "render_mode='human'; there are ansi, rgb_array"),
        ({"model": "inception-v3"}, "episodes from model and graph: give one of"),
        ({"graph": None}, "episodes from nothing: give one of suite"),
        ({"cluster": None}, "graph without a cluster"),
        ({"clusters": ("4xv100-pcie",)}, "`clusters` belongs to `folder`"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    given = {"graph": two_chains(), "cluster": toy_cluster(2), **settings}
    with pytest.raises(EpisodeError, match=message):
        GraphEnv(**given)


def test_unknown_options_and_pairs_are_refused() -> None:
    env = make("Placement")
    with pytest.raises(EpisodeError, match="unknown options level; there are pair and start"):
        env.reset(options={"level": 3})
    with pytest.raises(EpisodeError, match="no pair 7; there are 0 to 0"):
        env.reset(options={"pair": 7})


def test_models_and_clusters_by_name() -> None:
    env = gymnasium.make(
        "graphwright/Placement-v0", model="rnnlm:3:120", cluster="2xv100-pcie", steps=1
    )
    observation, info = env.reset(seed=0)
    assert info["instance"] == "rnnlm:3:120 on 2xv100-pcie"
    assert env.action_space.shape == observation["kinds"].shape
    with pytest.raises(ClusterError):
        gymnasium.make("graphwright/Placement-v0", model="rnnlm:3:120", cluster="2xabacus")
