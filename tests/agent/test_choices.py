"""Decisions drawn from scores, and how likely each draw was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent.policy.choices import (
    KEEP,
    best,
    by_group,
    by_op,
    chance_of,
    draw,
    log_chances,
    without_standing_still,
)


def scores(seed: int, groups: int = 40, choices: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (groups, choices))).float()


@given(st.integers(0, 1000), st.booleans())
def test_chances_of_each_row_add_up_to_one(seed: int, whole: bool) -> None:
    chances = log_chances(scores(seed), whole).exp()
    assert chances.shape == ((40, 3) if whole else (1, 120))
    assert torch.allclose(chances.sum(dim=1), torch.ones(len(chances)), atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_draws_are_as_frequent_as_their_chances_say(whole: bool) -> None:
    chances = log_chances(scores(2, groups=5), whole)
    drawn = draw(chances, 20_000, 1, np.random.default_rng(0))
    assert drawn.shape == (20_000, 5 if whole else 1)
    for row in range(len(chances)):
        found = np.bincount(drawn[:, row], minlength=chances.shape[1]) / 20_000
        assert np.abs(found - chances[row].exp().numpy()).max() < 0.015


def test_what_has_no_chance_is_never_drawn() -> None:
    some = scores(4, groups=30, choices=4)
    some[:, 3] = -torch.inf
    some[::2, 0] = -torch.inf
    drawn = draw(log_chances(some, True), 500, 1, np.random.default_rng(0))
    assert not (drawn == 3).any()
    assert not (drawn[:, ::2] == 0).any()


def test_a_group_that_may_take_nothing_keeps_what_it_has() -> None:
    some = scores(1, groups=3)
    some[1] = -torch.inf
    chances = log_chances(some, True)
    drawn = draw(chances, 50, 1, np.random.default_rng(0))
    assert (drawn[:, 1] == KEEP).all()
    assert (drawn[:, [0, 2]] != KEEP).all()
    assert (chance_of(chances, drawn)[:, 1] == 0).all()
    nothing = log_chances(torch.full((2, 2), -torch.inf), False)
    assert (draw(nothing, 4, 2, np.random.default_rng(0)) == KEEP).all()


def test_the_same_generator_draws_the_same() -> None:
    chances = log_chances(scores(5), False)
    first, second = (draw(chances, 9, 3, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


def test_chance_of_a_draw_is_looked_up() -> None:
    rows = log_chances(scores(6, groups=2), True)
    found = chance_of(rows, np.array([[2, 1]]))
    assert found.tolist() == [[rows[0, 2].item(), rows[1, 1].item()]]
    flat = log_chances(scores(6, groups=2), False)
    found = chance_of(flat, np.array([[5, 0]]))
    assert found.tolist() == [[flat[0, 5].item(), flat[0, 0].item()]]


def test_gradient_of_the_log_chance_is_zero_on_average() -> None:
    some = scores(8, groups=4).requires_grad_()
    chances = log_chances(some, False)
    drawn = draw(chances, 40_000, 2, np.random.default_rng(0))
    chance_of(chances, drawn).mean().backward()  # type: ignore[no-untyped-call]
    assert some.grad is not None
    assert some.grad.abs().max() < 0.01


def test_moves_become_choices_of_groups() -> None:
    assert by_group(np.array([7, 2]), 4, 3, whole=False).tolist() == [2, KEEP, 1, KEEP]
    assert by_group(np.array([7, 6]), 4, 3, whole=False).tolist() == [KEEP, KEEP, 1, KEEP]
    assert by_group(np.array([KEEP, 3]), 4, 3, whole=False).tolist() == [KEEP, 0, KEEP, KEEP]
    assert by_group(np.array([2, KEEP, 1]), 3, 3, whole=True).tolist() == [2, KEEP, 1]


def test_the_best_choice_is_the_one_with_the_highest_score() -> None:
    some = torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf], [2.0, -torch.inf]])
    assert best(some).tolist() == [1, KEEP, 0]


def test_standing_still_is_no_move() -> None:
    is_here = torch.tensor([[True, False], [False, False]])
    left = without_standing_still(torch.zeros(2, 2), is_here)
    assert torch.isinf(left).tolist() == is_here.tolist()


def test_groups_decide_for_their_ops() -> None:
    labels = np.array([0, 1, 1, 0], np.int32)
    before = {"placement": np.array([5, 6, 7, 8], np.int32)}
    found = by_op({"placement": np.array([KEEP, 2], np.int32)}, labels, before)
    assert found["placement"].tolist() == [5, 2, 2, 8]
