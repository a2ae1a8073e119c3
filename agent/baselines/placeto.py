"""Placeto (Addanki et al., "Placeto: Learning Generalizable Device Placement Algorithms for
Distributed Machine Learning", NeurIPS 2019, arXiv 1906.08879).

An episode begins at some placement and visits the groups of ops one by one; the policy
chooses a device for the group that it is at, and the reward is by how much the run time fell. A
group is told by its run time, the bytes that it sends, where it is, whether it is the one to be
placed now, and whether it has been placed in this episode. A graph network passes messages along
edges, from inputs to outputs and the other way, each with functions of its own; then what precedes
the current group, what follows it and what runs beside it are pooled, and the device is chosen from
these three and the group itself. Learning is REINFORCE against a baseline for each step.

Here it is trained from scratch on the graph at hand, and the best plan that any step made counts.
Departures, in its favour where they matter: groups are this project's (`group_graph`); run times
are told for each device, since devices may be unlike; the reward is in logarithms, as the
environment's `telescoping` has it, which prices plans that do not fit, instead of seconds and a
penalty of its own; several episodes are drawn at once, their mean at each step is the baseline,
and later rewards are discounted; episodes begin with everything on the fastest device; sums over
neighbours are means; a step that leaves its group where it is is not simulated again.

Sizes and rates are this project's choice where the paper's were not at hand.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

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
from simulator.log_scale import log_share

#: Columns of a group beside its run times and the device that it is on: bytes sent, whether it is
#: the current one, whether it is done.
_OTHER_COLUMNS = 3


@dataclass(frozen=True)
class PlacetoConfig:
    """Sizes and the update."""

    groups: int = 64
    width: int = 32
    """Of embeddings."""
    hops: int = 4
    """Messages are passed so many times in each direction."""
    episodes: int = 8
    """Drawn for an update."""
    update: Update = field(default_factory=lambda: Update(lr=5e-3, entropy=0.3, discount=0.97))


class PlacetoNetwork(nn.Module):
    """Scores of devices for one group of each state."""

    def __init__(self, groups: GroupGraph, config: PlacetoConfig) -> None:
        super().__init__()
        width, self.hops = config.width, config.hops
        columns = 2 * groups.device_count + _OTHER_COLUMNS
        self.embed = nn.Sequential(nn.Linear(columns, width), nn.ReLU())
        self.sent = nn.ModuleList([_layer(width, width) for _ in range(2)])
        self.taken = nn.ModuleList([_layer(width, width) for _ in range(2)])
        self.pooled = nn.ModuleList([_layer(2 * width, width) for _ in range(3)])
        self.score = nn.Sequential(
            nn.Linear(5 * width, width), nn.ReLU(), nn.Linear(width, groups.device_count)
        )
        edges = torch.from_numpy(groups.adjacency > 0).float()
        before = torch.from_numpy(groups.descends).float().T
        beside = 1 - before - before.T - torch.eye(groups.count)
        self.neighbours = [_mean_of(edges.T), _mean_of(edges)]
        self.sets = [_mean_of(before), _mean_of(before.T), _mean_of(beside)]

    def forward(
        self, states: Float[Tensor, "states groups columns"], current: Int64[Tensor, " states"]
    ) -> Float[Tensor, "states devices"]:
        first = self.embed(states)
        ways = []
        for sent, taken, near in zip(self.sent, self.taken, self.neighbours, strict=True):
            way = first
            for _ in range(self.hops):
                way = first + taken(near @ sent(way))
            ways.append(way)
        embedded = torch.cat(ways, dim=2)
        rows = torch.arange(len(current))
        told = [embedded[rows, current]]
        for layer, members in zip(self.pooled, self.sets, strict=True):
            told.append(torch.einsum("sg,sgw->sw", members[current], layer(embedded)))
        return torch.as_tensor(self.score(torch.cat(told, dim=1)))


@dataclass(frozen=True)
class PlacetoPlacer:
    """A `Placer`: the best plan seen while training on the graph, whatever heuristics know."""

    config: PlacetoConfig = field(default_factory=PlacetoConfig)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Train until the budget is spent; it is looked at after every step of an episode."""
        config = self.config
        groups = group_graph(problem, config.groups, seed)
        episodes = GroupEpisodes(
            problem, groups, groups.count + 1, Telescoping(), "placeto", budget
        )
        begun, _ = episodes.step(episodes.begin(1), groups.fastest[None])
        if groups.is_decided:
            return episodes.placed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PlacetoNetwork(groups, config)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.update.lr)
        rng = torch.Generator().manual_seed(seed)
        may = torch.from_numpy(groups.allowed).float()
        fixed = _fixed_columns(groups)
        while not budget.is_spent:
            progress = begun * config.episodes
            devices = np.tile(groups.fastest, (config.episodes, 1))
            states, chosen, rewards = [], [], np.zeros((groups.count, config.episodes))
            for group in range(groups.count):
                states.append(_states(groups, fixed, devices, group))
                with torch.no_grad():
                    at = torch.full((config.episodes,), group)
                    log_chance = masked_log_chance(network(states[-1], at), may[group])
                devices = devices.copy()
                devices[:, group] = draw(log_chance, rng)
                chosen.append(torch.from_numpy(devices[:, group]))
                progress, rewards[group] = episodes.step(progress, devices)
                if budget.is_spent:
                    return episodes.placed()
            share = min(budget.spent_seconds / budget.cpu_seconds, 1.0)
            gain = gains(returns_to_go(rewards, config.update.discount)).flatten()
            at = torch.arange(groups.count).repeat_interleave(config.episodes)
            log_chance = masked_log_chance(network(torch.cat(states), at), may[at])
            taken = log_chance.gather(1, torch.cat(chosen)[:, None])[:, 0]
            weight = config.update.entropy * (1 - 0.9 * share)
            loss = -(gain * taken).mean() - weight * entropy(log_chance).mean()
            torch.autograd.backward(loss)
            descend(optimizer, list(network.parameters()), config.update.max_grad_norm)
            on_progress(share)
        return episodes.placed()


def _states(
    groups: GroupGraph,
    fixed: Float64[np.ndarray, "groups fixed_columns"],
    devices: Int64[np.ndarray, "episodes groups"],
    current: int,
) -> Float[Tensor, "episodes groups columns"]:
    """What the policy sees of each episode before it places a group."""
    count = len(devices)
    here = np.eye(groups.device_count)[devices]
    order = np.arange(groups.count)
    marks = np.stack([order == current, order < current], axis=1)
    columns = [np.tile(fixed, (count, 1, 1)), here, np.tile(marks, (count, 1, 1))]
    return torch.from_numpy(np.concatenate(columns, axis=2)).float()


def _fixed_columns(groups: GroupGraph) -> Float64[np.ndarray, "groups fixed_columns"]:
    """What no placement changes: run times on each device, and bytes sent."""
    sent = groups.output_bytes / max(float(groups.output_bytes.max(initial=0.0)), 1.0)
    return np.concatenate(
        [log_share(groups.seconds / groups.span_seconds), log_share(sent)[:, None]], axis=1
    )


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


def _mean_of(members: Float[Tensor, "groups groups"]) -> Float[Tensor, "groups groups"]:
    """Weights that take the mean over each row's members; nothing where there are none."""
    return members / members.sum(dim=1, keepdim=True).clamp(min=1.0)
