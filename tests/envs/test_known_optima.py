"""Problems whose best plan is known: that it is the best, by trying all, and their environments."""

from collections.abc import Iterator
from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import KNOWN_IDS, KNOWN_OPTIMA, BatchedEnv, EpisodeError, GraphEnv, KnownOptimum, Task
from envs.tasks import FUSED_LEVEL, NEUTRAL_LEVEL, UNFUSED_LEVEL

#: Levels that suffice: for every order of four ops, and for what is fused.
LEVELS = {
    Task.SCHEDULING: (0, NEUTRAL_LEVEL, 20),
    Task.FUSION: (UNFUSED_LEVEL, FUSED_LEVEL),
}


def actions_of(known: KnownOptimum) -> Iterator[tuple[int, ...]]:
    choices = LEVELS.get(known.task, tuple(range(known.problem.cluster.device_count)))
    return product(choices, repeat=known.problem.graph.op_count)


@pytest.mark.parametrize("name", KNOWN_IDS)
def test_the_best_of_all_actions_takes_what_is_said(name: str) -> None:
    known = KNOWN_OPTIMA[KNOWN_IDS[name]]()
    tried = np.array(list(actions_of(known)))
    batch = gymnasium.make_vec(
        name, num_envs=len(tried), vectorization_mode="vector_entry_point",
        final_observations=False,
    )  # fmt: skip
    assert isinstance(batch, BatchedEnv)
    _, infos = batch.reset(seed=0)
    assert set(infos["optimum_seconds"]) == {known.seconds}
    *_, infos = batch.step(tried)
    final = infos["final_info"]
    fitting = final["makespan_seconds"][final["feasible"]]
    assert fitting.min() == pytest.approx(known.seconds)
    assert np.median(fitting) > 1.05 * known.seconds


@pytest.mark.parametrize("name", KNOWN_IDS)
def test_gymnasium_finds_no_fault(name: str) -> None:
    env = gymnasium.make(name)
    assert env.spec is not None
    check_env(env.unwrapped)
    _, info = env.reset(seed=0)
    assert info["optimum_seconds"] == KNOWN_OPTIMA[KNOWN_IDS[name]]().seconds


def test_the_ids_are_of_all_problems() -> None:
    assert set(KNOWN_IDS.values()) == set(KNOWN_OPTIMA)
    assert set(KNOWN_IDS) <= set(gymnasium.registry)
    assert {known().task for known in KNOWN_OPTIMA.values()} == set(Task)


def test_other_environments_say_nothing_of_an_optimum() -> None:
    problem = KNOWN_OPTIMA["TwoChains"]().problem
    assert "optimum_seconds" not in GraphEnv(problem=problem).reset(seed=0)[1]


def test_settings_are_those_of_the_environment() -> None:
    env = gymnasium.make("graphwright/ForkJoin-v0", steps=3, reward="log-speedup").unwrapped
    assert isinstance(env, GraphEnv)
    assert env.rules.steps == 3
    with pytest.raises(EpisodeError, match="TwoChains"):
        envs.known_optima.make_known("ThreeChains")
