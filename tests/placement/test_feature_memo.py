"""Features that are remembered are those that would be read anew."""

import numpy as np
import pytest
from graph_samples import random_cluster, random_devices, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.annealing.anneal import Annealer, Chain
from placement.annealing.feature_memo import make_memo
from placement.annealing.guided_anneal import Guidance, GuidedAnnealer, Harvest
from placement.annealing.hierarchy import build_hierarchy
from placement.annealing.move_features import MOVE_COLUMNS
from placement.annealing.move_scorer import blank_scorer
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import priority_ranks

#: Of a group: none is so large.
NEVER = 1_000_000


def chain_and_lessons(
    seed: int, least_members: int, temperature: float, read_after: int
) -> tuple[Chain, Harvest]:
    """A guided chain of two calls, and the features of all moves of the second."""
    graph, cluster = random_graph(seed, 80), random_cluster(seed)
    problem = Problem(graph, cluster)
    annealer = Annealer(problem, build_hierarchy(problem, seed, (3, 8)))
    rng = np.random.default_rng(seed)
    scorer = blank_scorer(4)._replace(
        first=rng.normal(size=(len(MOVE_COLUMNS), 4)).astype(np.float32),
        second=rng.normal(size=(4, 4)).astype(np.float32),
        last=rng.normal(size=4).astype(np.float32),
    )
    guided = GuidedAnnealer(annealer, scorer, Guidance(6, 2.0, 0.1, read_after))
    memo = make_memo(annealer.hierarchy, least_members)
    object.__setattr__(guided, "_guide", guided._guide._replace(memo=memo))
    devices = random_devices(graph, cluster, seed)
    chain = annealer.start(devices, priority_ranks(upward_ranks(problem, devices)), seed)
    chain = guided.reprioritise(guided.advance(chain, 60, temperature, 1.0))
    lessons = Harvest(np.zeros((60, len(MOVE_COLUMNS)), np.float32), np.zeros(60, np.float32))
    return guided.advance(chain, 60, temperature, 0.5, lessons), lessons


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from((0.0, 0.02, 10.0)), st.sampled_from((1, 4, 50)))
def test_a_chain_is_the_same_whatever_is_remembered(
    seed: int, temperature: float, read_after: int
) -> None:
    anew, lessons_anew = chain_and_lessons(seed, NEVER, temperature, read_after)
    for least_members in (1, 4):
        end, lessons = chain_and_lessons(seed, least_members, temperature, read_after)
        assert np.array_equal(end.devices, anew.devices)
        assert (end.energy, end.random_state) == (anew.energy, anew.random_state)
        assert np.array_equal(lessons.features, lessons_anew.features)
        assert np.array_equal(lessons.changes, lessons_anew.changes)


@pytest.mark.parametrize(("least_members", "kept"), [(1, 60), (NEVER, 0)])
def test_only_large_groups_have_room(least_members: int, kept: int) -> None:
    problem = Problem(random_graph(3, 60, groups=False), random_cluster(3))
    memo = make_memo(build_hierarchy(problem, 0, ()), least_members)
    assert len(memo.rows) == kept
    assert (memo.kept_of_group >= 0).sum() == kept
