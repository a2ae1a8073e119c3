"""The update: against an independent PPO on a bandit, and its parts by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_optima import agent_config, start, two_chains
from torch import nn

from agent.learning.config import PpoConfig, SampleConfig
from agent.learning.improving import draw_pass, learn
from agent.learning.ppo import _clip, advantages, entropy_of, update
from agent.learning.rollout import Rollout
from agent.policy.choices import Draw, chance_of, draw, log_chances
from agent.policy.inputs import PolicyInput
from agent.policy.network import Policy
from envs.tasks import Task


class Table(nn.Module):
    """Scores that do not depend on what is seen: a bandit per group."""

    def __init__(self, groups: int, devices: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(groups, devices))

    def forward(self, _batch: PolicyInput) -> dict[str, torch.Tensor]:
        return {Task.PLACEMENT: self.scores}


def bandit(samples: int = 64) -> tuple[Table, PolicyInput, Rollout]:
    problem, _ = two_chains(3)
    config = agent_config(("placement",), whole=True)
    state = start(problem, config)
    table = Table(6, 2)
    passed = draw_pass(table, replace(config, sample=SampleConfig(samples=samples)), [state],
                       [np.random.default_rng(0)])  # fmt: skip
    return table, passed.batch, passed.rollouts[0]


def independent_steps(
    rollout: Rollout, epochs: int, clip: float, entropy: float, rate: float
) -> np.ndarray:
    """PPO for independent softmax bandits in NumPy: gradients written out, plain descent."""
    drawn = rollout.draws[0][0].drawn
    worth = rollout.scores.rewards
    gain = (worth - worth.mean()) / worth.std()
    gain = np.clip(gain, -4, 4)
    theta = np.zeros((6, 2))
    old = np.log(np.full((6, 2), 0.5))
    for _ in range(epochs):
        chance = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
        gradient = np.zeros_like(theta)
        for number, choices in enumerate(drawn):
            for group, choice in enumerate(choices):
                ratio = np.exp(np.log(chance[group, choice]) - old[group, choice])
                a = gain[number]
                passes = ratio <= 1 + clip if a >= 0 else 1 - clip <= ratio <= 3.0
                if passes:
                    own = -chance[group].copy()
                    own[choice] += 1
                    gradient[group] += a * ratio * own / drawn.size
        logs = np.log(chance)
        surprise = (chance * logs).sum(axis=1, keepdims=True)
        # Six choices are a sample: each explains about 1 / sqrt(6) of the spread.
        gradient += entropy / 6**0.5 * -chance * (logs - surprise) / len(theta)
        theta += rate * gradient
    return theta


@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_updates_equal_those_of_an_independent_implementation(entropy: float) -> None:
    table, batch, rollout = bandit()
    config = PpoConfig(epochs=6, clip=0.1, max_kl=np.inf, max_grad_norm=1e9)
    descent = torch.optim.SGD(table.parameters(), lr=2.0)
    update(table, descent, batch, [rollout], config, entropy)
    expected = independent_steps(rollout, 6, 0.1, entropy, 2.0)
    assert np.abs(expected).max() > 0.1  # far enough for ratios to be clipped
    assert np.allclose(table.scores.detach().numpy(), expected, atol=1e-4)


def test_clipping_holds_ratios_back() -> None:
    moved = []
    for clip in (0.05, 10.0):
        table, batch, rollout = bandit()
        config = PpoConfig(epochs=20, clip=clip, max_kl=np.inf, max_grad_norm=1e9)
        figures = update(
            table, torch.optim.SGD(table.parameters(), lr=2.0), batch, [rollout], config, 0.0
        )
        moved.append((float(table.scores.abs().max()), figures.clipped_share))
    assert moved[0][0] < moved[1][0]
    assert moved[0][1] > 0


def test_an_update_stops_once_the_policy_has_moved_far() -> None:
    table, batch, rollout = bandit()
    config = PpoConfig(epochs=50, max_kl=1e-3, max_grad_norm=1e9)
    figures = update(
        table, torch.optim.SGD(table.parameters(), lr=5.0), batch, [rollout], config, 0.0
    )
    assert figures.epochs < 50
    assert figures.kl > 1e-3


def test_whole_decisions_are_worth_their_standardised_reward() -> None:
    _, _, rollout = bandit(samples=16)
    found = advantages(rollout, limit=4.0)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std() == pytest.approx(1, abs=0.05)
    assert np.argmax(found) == np.argmin(rollout.scores.makespan_seconds)


def test_moves_are_worth_what_they_improve_among_their_own_level() -> None:
    problem, _ = two_chains(3)
    config = agent_config(("placement",), whole=False)
    config = replace(config, episode=replace(config.episode, from_scratch=False, group_sizes=(2,)))
    state = start(problem, config)
    batch_pass = draw_pass(
        Policy(config.policy), replace(config, sample=SampleConfig(samples=40, moves=(1,))),
        [state], [np.random.default_rng(0)],
    )  # fmt: skip
    rollout = batch_pass.rollouts[0]
    found = advantages(rollout, limit=9.0)
    gain = state.energy - rollout.energies
    done = 0
    for draws in rollout.draws:
        mine = slice(done, done + len(draws[0].drawn))
        done = mine.stop
        assert found[mine].sum() == pytest.approx(0, abs=1e-9)
        worse = gain[mine] <= 0
        if worse.any() and not worse.all():
            assert len(set(found[mine][worse].round(9))) == 1  # how bad does not matter
            assert found[mine][worse].max() < found[mine][~worse].min()
    assert (gain > 0).any()


def test_tasks_count_alike_however_many_there_are() -> None:
    """The same choices twice, as two tasks, are worth, and spread, what they do as one."""
    _, batch, rollout = bandit()
    doubled = replace(rollout, draws=tuple((*draws, *draws) for draws in rollout.draws))
    config = PpoConfig(epochs=2, max_kl=np.inf, max_grad_norm=1e9)
    found = []
    for given in (rollout, doubled):
        again = Table(6, 2)
        descent = torch.optim.SGD(again.parameters(), lr=2.0)
        found.append((update(again, descent, batch, [given], config, 0.3), again.scores.detach()))
    (one, alone), (two, both) = found
    assert torch.allclose(alone, both, atol=1e-6)
    assert alone.abs().max() > 0.05
    assert [one.entropy, one.kl] == pytest.approx([two.entropy, two.kl])


def test_the_default_entropy_lets_whole_decisions_learn() -> None:
    """Of 200 bandits with one good choice each, whose worth is the sum of all."""
    groups, samples, config = 200, 64, PpoConfig()
    table = Table(groups, 2)
    descent = torch.optim.Adam(table.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    rounds = 60
    for number in range(rounds):
        chances = log_chances(table.scores.detach(), whole=True)
        drawn = draw(chances, samples, 1, rng)
        item = Draw(Task.PLACEMENT, 0, groups, True, drawn, chance_of(chances, drawn))
        worth = drawn.sum(axis=1).astype(float)
        weight = config.entropy + (config.entropy_end - config.entropy) * number / rounds
        gains = torch.from_numpy((worth - worth.mean()) / worth.std()).float()
        for _ in range(config.epochs):
            now = log_chances(table.scores, whole=True)
            surrogate, _, _ = _clip(now, item, gains, config.clip)
            loss = -surrogate - weight / groups**0.5 * entropy_of(now)
            descent.zero_grad()
            loss.backward()
            descent.step()
    assert float(torch.softmax(table.scores, 1)[:, 1].mean()) > 0.8


def test_entropy_by_hand() -> None:
    assert float(entropy_of(log_chances(torch.zeros(3, 4), whole=True))) == pytest.approx(np.log(4))
    assert float(entropy_of(log_chances(torch.zeros(3, 4), whole=False))) == pytest.approx(
        np.log(12)
    )
    some = torch.tensor([[0.0, -torch.inf]])
    assert float(entropy_of(log_chances(some, whole=True))) == 0.0


def test_samples_of_a_seed_are_the_same_and_a_batch_does_not_matter() -> None:
    problem, _ = two_chains(3)
    config = agent_config(("placement",), whole=True)
    torch.manual_seed(0)
    policy = Policy(config.policy).eval()
    state = start(problem, config)
    both = draw_pass(policy, config, [state, state], [np.random.default_rng(s) for s in (5, 6)])
    one = draw_pass(policy, config, [state], [np.random.default_rng(6)])
    assert np.array_equal(both.rollouts[1].energies, one.rollouts[0].energies)
    assert not np.array_equal(both.rollouts[0].draws[0][0].drawn, one.rollouts[0].draws[0][0].drawn)


def test_learning_with_two_graphs_is_the_mean_of_both() -> None:
    grads = []
    problems = [two_chains(3)[0], two_chains(5)[0]]
    config = agent_config(("placement",), whole=True)
    torch.manual_seed(0)
    policy = Policy(config.policy)
    one_epoch = replace(config, ppo=replace(config.ppo, epochs=1, lr=0.0, max_grad_norm=1e9))
    for chosen in ([0, 1], [0], [1]):
        states = [start(problems[i], config) for i in chosen]
        passed = draw_pass(policy, one_epoch, states, [np.random.default_rng(i) for i in chosen])
        learn(policy, torch.optim.SGD(policy.parameters(), lr=0.0), one_epoch, passed, 0.0)
        grads.append(torch.cat([p.grad.flatten().clone() for p in policy.parameters()
                                if p.grad is not None]))  # fmt: skip
    assert torch.allclose(grads[0], (grads[1] + grads[2]) / 2, atol=1e-5)


def test_merging_keeps_what_helps_together() -> None:
    problem, optimum = two_chains(4)
    config = agent_config(("placement",), whole=False)
    config = replace(config, episode=replace(config.episode, from_scratch=False, group_sizes=(2,)))
    state = start(problem, config)
    torch.manual_seed(0)
    passed = draw_pass(Policy(config.policy), config, [state], [np.random.default_rng(0)])
    rollout = passed.rollouts[0]
    assert rollout.best(merged=1).energy == rollout.energies.min()
    assert rollout.best(merged=8).energy <= rollout.energies.min()
    assert np.exp(rollout.best(merged=8).energy) == pytest.approx(optimum)
