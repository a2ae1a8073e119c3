"""Pictures of plans: what the table says, and that the chart shows something."""

import matplotlib
import numpy as np
import pytest
from environment_samples import two_chains
from graph_samples import graph_of, op, toy_cluster

from envs import GraphEnv


def stepped(render_mode: str | None, action: list[int]) -> GraphEnv:
    graph = graph_of(op("a", 1.0, (), 2, resident_bytes=60), op("b", 3.0, ("a",), 0))
    env = GraphEnv(
        graph=graph, cluster=toy_cluster(2, memory_bytes=100), render_mode=render_mode, steps=2
    )
    env.reset(seed=0)
    env.step(np.array(action))
    return env


def table(env: GraphEnv) -> str:
    drawn = env.render()
    assert isinstance(drawn, str)
    return drawn


def chart(env: GraphEnv) -> np.ndarray:
    drawn = env.render()
    assert isinstance(drawn, np.ndarray)
    return drawn


def test_the_table_says_what_devices_do() -> None:
    lines = table(stepped("ansi", [0, 1])).splitlines()
    assert lines[0] == "sample on toy-2: 6 s, portfolio 4 s"
    assert lines[1].split() == ["device", "ops", "busy", "peak", "of", "sent", "received"]
    assert lines[2].split() == ["d0", "1", "17%", "62", "B", "100", "B", "2", "B", "0", "B"]
    assert lines[3].split() == ["d1", "1", "50%", "2", "B", "100", "B", "0", "B", "2", "B"]
    assert len(lines) == 4


def test_the_table_says_why_a_plan_failed() -> None:
    graph = graph_of(op("a", 1.0, resident_bytes=60), op("b", 1.0, resident_bytes=60))
    cluster = toy_cluster(2, memory_bytes=100)
    env = GraphEnv(graph=graph, cluster=cluster, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    assert "d0 runs out of memory at 0 ns: peak 120 B of 100 B" in table(env)


def test_before_a_plan_has_run() -> None:
    env = GraphEnv(graph=two_chains(), cluster=toy_cluster(2), render_mode="ansi")
    env.reset(seed=0)
    assert table(env) == "sample on toy-2: no plan has run yet"


def test_the_chart_shows_ops_transfers_memory_and_capacity() -> None:
    image = chart(stepped("rgb_array", [0, 1]))
    assert image.dtype == np.uint8
    assert image.shape == (340, 960, 3)
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    shown = {tuple(colour): count for colour, count in zip(colours.tolist(), counts, strict=True)}
    ops, transfers, memory = (0x4C, 0x78, 0xA8), (0xB2, 0x79, 0xA2), (0x72, 0xB7, 0xB2)
    assert shown.get(ops, 0) > 1000
    assert shown.get(transfers, 0) > 500
    assert shown.get(memory, 0) > 1000
    capacity = (np.abs(image.astype(int) - [0xE4, 0x57, 0x56]) < 40).all(axis=2)
    assert capacity.sum() > 500


def test_unlike_plans_look_unlike() -> None:
    split, alone = stepped("rgb_array", [0, 1]), stepped("rgb_array", [0, 0])
    assert not np.array_equal(chart(split), chart(alone))
    assert np.array_equal(chart(split), chart(split))


def test_without_a_mode_nothing_is_drawn() -> None:
    with pytest.warns(UserWarning, match="no render mode; choose one of ansi, rgb_array"):
        assert stepped(None, [0, 1]).render() is None


def test_pictures_are_the_same_whatever_settings_lie_about() -> None:
    plain = chart(stepped("rgb_array", [0, 1]))
    with matplotlib.rc_context({"figure.facecolor": "red", "text.usetex": True}):
        again = chart(stepped("rgb_array", [0, 1]))
        assert matplotlib.rcParams["figure.facecolor"] == "red"
    assert np.array_equal(plain, again)
