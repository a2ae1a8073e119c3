"""GiPH (Hu et al., "GiPH: Generalizable Placement Learning for Adaptive Heterogeneous Computing",
MLSys 2023, arXiv 2305.14562).

A search that begins at a random placement and relocates one task (here: a group of ops)
at a time. What could be done is a graph itself, gpNet (`gp_net`): a node for each task on each
device that it may go to, joined to its neighbours where they are, with the seconds that the task
takes there, whether it is there, and how much earlier it could begin, and on edges what sending
takes. A graph network goes over it both ways, a score is made of each node, and the policy draws
the relocation from all of them; tasks do not move twice in a row. The reward is by how much the
objective fell, later ones discounted; learning is REINFORCE against a mean return.

Here it is trained from scratch on the graph at hand, and the best plan that any step made counts.
Departures: groups are this project's (`group_graph`); messages are passed a fixed number of times
instead of node by node in topological order; start times are those of a plain schedule of the
groups (`group_schedule`), not of the simulator; the reward is in logarithms, as the environment's
`telescoping` has it, which prices plans that do not fit; several episodes are drawn at once, and
their mean at each step is the baseline; episodes of every other update, the first among them, begin
with everything on the fastest device, in its favour; there is an entropy bonus.

Sizes and rates are this project's choice where the paper's were not at hand.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agent.baselines.gp_net import GpNet, options_of
from agent.baselines.group_episodes import GroupEpisodes
from agent.baselines.group_graph import GroupGraph, group_graph
from agent.baselines.reinforce import (
    Update,
    descend,
    draw,
    entropy,
    gains,
    masked_log_chance,
    returns_to_go,
)
from envs.rewards import Telescoping
from placement.placer import Budget, OnProgress, Placed
from placement.problem import Problem

#: States that gradients are worked out of at once, for the sake of memory.
_STATES_AT_ONCE = 64


@dataclass(frozen=True)
class GiphConfig:
    """Sizes and the update."""

    groups: int = 64
    width: int = 16
    """Of embeddings."""
    hops: int = 2
    """Messages are passed so many times in each direction."""
    episodes: int = 4
    """Drawn for an update."""
    steps_per_group: float = 2.0
    """Relocations of an episode, for each group."""
    update: Update = field(default_factory=lambda: Update(lr=1e-2, entropy=0.1, discount=0.97))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the policy saw in one step of all episodes, and what it chose."""

    options: Float[Tensor, "episodes groups devices columns"]
    pivots: Int64[Tensor, "episodes groups"]
    may: Float[Tensor, "episodes relocations"]
    chosen: Int64[Tensor, " episodes"]


@dataclass(frozen=True)
class GiphPlacer:
    """A `Placer`: the best plan seen while training on the graph, whatever heuristics know."""

    config: GiphConfig = field(default_factory=GiphConfig)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Train until the budget is spent; it is looked at after every step of an episode."""
        config, count = self.config, self.config.episodes
        groups = group_graph(problem, config.groups, seed)
        steps = max(round(config.steps_per_group * groups.count), 1)
        episodes = GroupEpisodes(problem, groups, steps + 1, Telescoping(), "giph", budget)
        if groups.is_decided:
            episodes.step(episodes.begin(1), groups.fastest[None])
            return episodes.placed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = GpNet(groups, config.width, config.hops)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.update.lr)
        rng = torch.Generator().manual_seed(seed)
        for number in itertools.count():
            devices = np.tile(groups.fastest, (count, 1))
            if number % 2:
                devices = _random_placements(groups, count, rng)
            progress, _ = episodes.step(episodes.begin(count), devices)
            last = np.full(count, -1)
            seen: list[_Seen] = []
            rewards = np.zeros((steps, count))
            for step in range(steps):
                if budget.is_spent:
                    return episodes.placed()
                options, pivots = options_of(groups, devices), torch.from_numpy(devices)
                may = relocations(groups, devices, last)
                with torch.no_grad():
                    scores = network(options, pivots).flatten(1)
                    chosen = draw(masked_log_chance(scores, may), rng)
                seen.append(_Seen(options, pivots, may, torch.from_numpy(chosen)))
                last = chosen // groups.device_count
                devices = devices.copy()
                devices[np.arange(count), last] = chosen % groups.device_count
                progress, rewards[step] = episodes.step(progress, devices)
            share = min(budget.spent_seconds / budget.cpu_seconds, 1.0)
            gain = gains(returns_to_go(rewards, config.update.discount))
            weight = config.update.entropy * (1 - 0.9 * share)
            _learn(network, seen, gain, weight)
            descend(optimizer, list(network.parameters()), config.update.max_grad_norm)
            on_progress(share)
        raise AssertionError("training ends with the budget")


def _learn(
    network: GpNet, seen: list[_Seen], gain: Float[Tensor, "steps episodes"], weight: float
) -> None:
    """Add up the gradients of all steps, some at once."""
    at_once = max(_STATES_AT_ONCE // gain.shape[1], 1)
    for first in range(0, len(seen), at_once):
        part = seen[first : first + at_once]
        scores = network(
            torch.cat([one.options for one in part]), torch.cat([one.pivots for one in part])
        ).flatten(1)
        log_chance = masked_log_chance(scores, torch.cat([one.may for one in part]))
        chosen = torch.cat([one.chosen for one in part])
        taken = log_chance.gather(1, chosen[:, None])[:, 0]
        gained = gain[first : first + at_once].flatten() * taken
        loss = -(gained + weight * entropy(log_chance)).sum() / gain.numel()
        torch.autograd.backward(loss)


def _random_placements(
    groups: GroupGraph, count: int, rng: torch.Generator
) -> Int64[np.ndarray, "{count} groups"]:
    chances = torch.from_numpy(groups.allowed).float()
    drawn = torch.multinomial(chances, count, replacement=True, generator=rng)
    return np.ascontiguousarray(drawn.numpy().T)


def relocations(
    groups: GroupGraph,
    devices: Int64[np.ndarray, "episodes groups"],
    last: Int64[np.ndarray, " episodes"],
) -> Float[Tensor, "episodes relocations"]:
    """1 for options that change the placement, unless their group was the last one to move.

    Args:
        groups: what may go where.
        devices: where groups are.
        last: the group that moved last in each episode, -1 before any has.
    """
    rows = np.arange(len(devices))
    may = np.tile(groups.allowed, (len(devices), 1, 1))
    may[rows[:, None], np.arange(groups.count), devices] = False
    rested = may.copy()
    rested[rows[last >= 0], last[last >= 0]] = False
    # Where a single group can move at all, it does so again.
    some = np.asarray(rested.any(axis=(1, 2)))
    return torch.from_numpy(np.where(some[:, None, None], rested, may)).float().flatten(1)
