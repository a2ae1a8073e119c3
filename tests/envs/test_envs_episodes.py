"""Where episodes come from, and what is kept of them."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from environment_samples import two_chains
from graph_samples import random_graph, toy_cluster

from envs import EpisodeError, Episodes, episodes_from
from graphs.errors import ModelError
from graphs.graph_file import graph_to_bytes
from placement.problem import Problem
from placement.suites import Headroom, Pair, get_suite


def numbered(count: int, ops: int = 10) -> Episodes:
    problems = [Problem(random_graph(seed, ops), toy_cluster(2)) for seed in range(count)]
    return Episodes(tuple(problems), kept_ops=3 * ops)


def test_every_pair_is_drawn() -> None:
    episodes = numbered(4)
    rng = np.random.default_rng(0)
    assert len({episodes.draw(rng).name for _ in range(40)}) == 4


def test_the_same_generator_draws_the_same() -> None:
    def names(seed: int) -> list[str]:
        episodes, rng = numbered(4), np.random.default_rng(seed)
        return [episodes.draw(rng).name for _ in range(10)]

    assert names(0) == names(0)
    assert names(0) != names(1)


def test_the_instances_used_last_are_kept() -> None:
    episodes = numbered(5)
    first = episodes.at(0)
    static = first.static
    episodes.at(1), episodes.at(2)
    assert episodes.at(0) is first and first.static is static
    episodes.at(3)  # now 1 was used longest ago: 30 ops are kept
    assert list(episodes._kept) == [2, 0, 3]
    assert episodes.at(0) is first


def test_a_graph_larger_than_what_is_kept_is_kept_alone() -> None:
    graphs = (random_graph(0, 10), random_graph(1, 50))
    episodes = Episodes(tuple(Problem(graph, toy_cluster(2)) for graph in graphs), kept_ops=20)
    episodes.at(0)
    assert episodes.at(1) is episodes.at(1)
    assert list(episodes._kept) == [1]


def test_the_largest_cluster_is_known_without_building_a_graph() -> None:
    pairs = [
        Pair("no-such-graph", "2xv100-pcie", Headroom.NONE),
        Pair("no-such-graph", "8xp100-pcie@tight:1.2", Headroom.NONE),
    ]
    episodes = episodes_from(pairs=pairs)
    assert episodes.max_devices == 8
    with pytest.raises(ModelError, match="no-such-graph"):
        episodes.at(0)


def test_suites_by_name() -> None:
    episodes = episodes_from(suite="validation")
    assert len(episodes) == len(get_suite("validation").pairs)
    assert episodes.only is None
    assert episodes.max_devices == 8
    with pytest.raises(EpisodeError, match="`cluster` belongs to `model` or `graph`"):
        episodes_from(suite="validation", cluster="2xv100-pcie")


def test_folders_of_models_meet_every_cluster(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "first.gwgraph").write_bytes(graph_to_bytes(two_chains()))
    (tmp_path / "deeper" / "second.gwgraph").write_bytes(graph_to_bytes(random_graph(0, 12)))
    env = gymnasium.make(
        "graphwright/Placement-v0", folder=tmp_path, clusters=("2xv100-pcie", "4xv100-pcie")
    )
    names, sizes = set(), set()
    for pair in range(4):
        observation, info = env.reset(options={"pair": pair})
        assert observation in env.observation_space
        names.add(info["instance"])
        sizes.add((len(observation["kinds"]), len(observation["cluster"].nodes)))
    assert len(names) == 4
    assert sizes == {(5, 2), (5, 4), (12, 2), (12, 4)}
    with pytest.raises(ModelError, match="no such folder"):
        episodes_from(folder=tmp_path / "elsewhere", clusters=("2xv100-pcie",))


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(EpisodeError, match="no graphs to draw episodes from"):
        episodes_from(pairs=[])
