"""Decisions drawn from scores: how many groups move, how likely each draw was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent.policy.choices import (
    KEEP,
    best,
    by_op,
    chance_of,
    draw,
    keep_score,
    log_chances,
    without_standing_still,
)


def scores(seed: int, groups: int = 40, choices: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (groups, choices))).float()


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 4.0, 15.0]))
def test_as_many_groups_move_as_asked_for(seed: int, moves: float) -> None:
    chances = log_chances(scores(seed), moves).exp()
    assert float((1 - chances[:, -1]).sum()) == pytest.approx(moves, rel=1e-3)
    assert torch.allclose(chances.sum(dim=1), torch.ones(40), atol=1e-5)


def test_at_most_half_of_the_groups_are_expected_to_move() -> None:
    chances = log_chances(scores(0, groups=4), 100.0).exp()
    assert float((1 - chances[:, -1]).sum()) == pytest.approx(2.0, rel=1e-3)


def test_whole_decisions_keep_nothing_unless_no_choice_is_allowed() -> None:
    some = scores(1, groups=3)
    some[1] = -torch.inf
    chances = log_chances(some, np.inf).exp()
    assert chances[0, -1] == 0
    assert chances[2, -1] == 0
    assert chances[1, -1] == 1
    assert keep_score(torch.full((2, 2), -torch.inf), 1.0) == 0.0


def test_draws_are_as_frequent_as_their_chances_say() -> None:
    chances = log_chances(scores(2, groups=5), np.inf)
    drawn = draw(chances, 20_000, np.random.default_rng(0))
    for group in range(5):
        for choice in range(3):
            expected = float(chances[group, choice].exp())
            assert (drawn[:, group] == choice).mean() == pytest.approx(expected, abs=0.015)


def test_every_sample_moves_something() -> None:
    drawn = draw(log_chances(scores(3), 0.1), 200, np.random.default_rng(0))
    assert ((drawn != KEEP).sum(axis=1) >= 1).all()


def test_choices_without_a_chance_are_never_drawn() -> None:
    some = scores(4, groups=30, choices=4)
    some[:, 3] = -torch.inf
    some[::2, 0] = -torch.inf
    drawn = draw(log_chances(some, np.inf), 500, np.random.default_rng(0))
    assert not (drawn == 3).any()
    assert not (drawn[:, ::2] == 0).any()


def test_the_same_generator_draws_the_same() -> None:
    chances = log_chances(scores(5), 2.0)
    first, second = (draw(chances, 9, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


def test_chance_of_a_draw_is_looked_up_by_group_and_choice() -> None:
    chances = log_chances(scores(6, groups=2), 0.5)
    found = chance_of(chances, np.array([[KEEP, 1], [2, KEEP]], np.int32))
    assert found.tolist() == [
        [chances[0, 3].item(), chances[1, 1].item()],
        [chances[0, 2].item(), chances[1, 3].item()],
    ]


def test_the_best_choice_may_be_to_keep() -> None:
    some = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert best(
        torch.log_softmax(torch.cat([some, torch.tensor([[0.5], [3.0]])], 1), 1)
    ).tolist() == [1, KEEP]


def test_standing_still_is_no_move() -> None:
    is_here = torch.tensor([[True, False], [False, False]])
    left = without_standing_still(torch.zeros(2, 2), is_here)
    assert torch.isinf(left).tolist() == is_here.tolist()


def test_groups_decide_for_their_ops() -> None:
    labels = np.array([0, 1, 1, 0], np.int32)
    before = {"placement": np.array([5, 6, 7, 8], np.int32)}
    found = by_op({"placement": np.array([KEEP, 2], np.int32)}, labels, before)
    assert found["placement"].tolist() == [5, 2, 2, 8]
