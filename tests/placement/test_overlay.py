"""Groups that plans suggest."""

from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import graph_of, op, random_cluster, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import AgentConfig, EpisodeConfig, GuideConfig
from agent.placing.guided_search import guided_search
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.policy.state import begin
from agent.policy.view import group_instance
from envs.episodes import Prepared
from envs.instance import Instance
from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.annealing.overlay import overlaid
from placement.constraints import Constraints
from placement.placer import Budget
from placement.problem import Problem


def line(count: int, devices: int = 3, **constraints: Any) -> Problem:
    graph = graph_of(*(op(f"n{i}", 1, (f"n{i - 1}",) if i else (), 1) for i in range(count)))
    return Problem(graph, toy_cluster(devices), Constraints(**constraints))


def level(hierarchy: Hierarchy, number: int) -> list[list[int]]:
    first, last = hierarchy.level_offsets[number : number + 2]
    bounds = hierarchy.member_offsets
    return sorted(hierarchy.members[bounds[g] : bounds[g + 1]].tolist() for g in range(first, last))


def on(*devices: int) -> np.ndarray:
    return np.array(devices, np.int32)


def test_pieces_are_connected_and_agreed_on() -> None:
    problem = line(8)
    hierarchy = build_hierarchy(problem, 0)
    best, other = on(0, 0, 0, 1, 1, 1, 0, 0), on(2, 2, 1, 1, 0, 0, 1, 1)
    found = overlaid(problem, hierarchy, best, [other])
    assert found.level_count == hierarchy.level_count + 1
    assert level(found, hierarchy.level_count) == [[0, 1], [2], [3], [4, 5], [6, 7]]
    for number in range(hierarchy.level_count):
        assert level(found, number) == level(hierarchy, number)


def test_on_which_devices_makes_no_difference() -> None:
    problem = line(8)
    best, other = on(0, 0, 0, 1, 1, 1, 0, 0), on(1, 1, 2, 2, 2, 0, 0, 0)
    renamed = on(2, 0, 1)[other]
    one, same = (
        overlaid(problem, build_hierarchy(problem, 0), best, [o]) for o in (other, renamed)
    )
    assert (one.labels == same.labels).all()


def test_a_level_of_single_units_adds_nothing() -> None:
    problem = line(6, 2)
    hierarchy = build_hierarchy(problem, 0)
    apart = on(0, 1, 0, 1, 0, 1)
    assert overlaid(problem, hierarchy, apart, [apart]) is hierarchy
    assert overlaid(problem, hierarchy, apart, []) is hierarchy


def test_levels_know_how_fine_they_are() -> None:
    problem = Problem(random_graph(1, 300, groups=False), toy_cluster(2))
    hierarchy = build_hierarchy(problem, 0)
    assert hierarchy.depths.tolist() == [0, 1, 2, 3]
    whole = np.zeros(300, np.int32)
    halves = (np.arange(300) >= 150).astype(np.int32)
    found = overlaid(problem, hierarchy, whole, [whole, halves])
    counts = np.diff(found.level_offsets)
    for depth, count in zip(found.depths[4:], counts[4:], strict=True):
        finer = np.searchsorted(counts[:4], count)
        assert max(finer - 1, 0) <= depth <= finer


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 80))
def test_every_level_parts_all_ops_and_keeps_to_what_is_allowed(seed: int, ops: int) -> None:
    problem = Problem(random_graph(seed, ops), random_cluster(seed))
    rng = np.random.default_rng(seed)
    count = problem.cluster.device_count
    # Long runs of units on one device, so that there are pieces.
    plans = [
        np.sort(rng.integers(count, size=problem.unit_count)).astype(np.int32)[problem.unit_of]
        for _ in range(3)
    ]
    found = overlaid(problem, build_hierarchy(problem, seed), plans[0], plans[1:])
    for number in range(found.level_count):
        members = [member for group in level(found, number) for member in group]
        assert sorted(members) == list(range(ops))
    assert len(found.depths) == found.level_count
    for group in range(len(found.allowed)):
        bounds = found.member_offsets[group : group + 2]
        units = np.unique(problem.unit_of[found.members[slice(*bounds)]])
        assert (found.allowed[group] == problem.unit_allowed[units].all(axis=0)).all()


@pytest.mark.parametrize("overlays", [0, 1, 3])
def test_the_last_chain_of_a_search_moves_pieces(
    overlays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from placement.annealing import anneal

    config = AgentConfig(
        policy=PolicyConfig(width=16, pair_width=8, segment_ops=16),
        episode=EpisodeConfig(group_sizes=(4, 12)),
        guide=GuideConfig(overlays=overlays, starts_evaluations=100),
    )
    problem = Problem(random_graph(9, 300), toy_cluster(3))
    prepared = Prepared(Instance("sample", problem))
    subject = group_instance(prepared, config.episode.group_sizes, 0)
    state = begin(subject, config.rules)
    seen: list[int] = []
    made = anneal.Annealer.__post_init__

    def watched(annealer: anneal.Annealer) -> None:
        seen.append(annealer.hierarchy.level_count)
        made(annealer)

    monkeypatch.setattr(anneal.Annealer, "__post_init__", watched)
    torch.manual_seed(0)
    policy = Policy(config.policy)
    runs = [
        guided_search(policy, state, Budget(1e9), 1, config, lambda _: None, 40, 200)
        for _ in range(2)
    ]
    assert runs[0].best_plan == runs[1].best_plan
    own = subject.groups.hierarchy.level_count
    assert seen[0] == own
    assert seen[len(seen) // 2 - 1] == own + overlays
