"""Doppler (Yao et al., "DOPPLER: Dual-Policy Learning for Device Assignment in Asynchronous
Dataflow Graphs", ICLR 2026, arXiv 2505.23131).

A graph is placed op by op with two policies. SEL chooses which of the ops is next
whose producers have been placed, by embeddings of the op and of the longest chains through it to
the end and from the beginning; PLC chooses its device, by the op's embedding, those of what the
device has been given, and what a schedule of what has been placed so far says of the device
(`doppler_network`). The graph network runs once for an episode. Training has stages: first both
policies imitate a critical-path heuristic (the ready op with the longest way to the end, where it
ends first), then they learn by REINFORCE from simulated step times. The third stage, learning on
the real system, is the same as the second here, for the simulator is all there is.

Here it is trained from scratch on the graph at hand, and the best plan that any episode made
counts; what the heuristic does counts only if the policies do it too. Departures: ops are groups of
this project's (`group_graph`); the heuristic is this module's, on groups and without the project's
own heuristics; the order of SEL is that of decisions alone, the order on each device is
critical-path priority as in all plans of the environment; the reward is the environment's
`log-speedup`; several episodes are drawn at once, and their mean is the baseline; the share of
random choices differs between them, from none to the most; an entropy bonus on top.

Sizes and rates are this project's choice where the paper's were not at hand.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from agent.baselines.doppler_network import DopplerNetwork, chain_seconds
from agent.baselines.group_episodes import GroupEpisodes
from agent.baselines.group_graph import GroupGraph, group_graph
from agent.baselines.group_schedule import GroupSchedules
from agent.baselines.reinforce import (
    Update,
    descend,
    draw,
    entropy,
    gains,
    masked_log_chance,
    with_random_choices,
)
from envs.rewards import LogSpeedup
from placement.placer import Budget, OnProgress, Placed
from placement.problem import Problem
from simulator.log_scale import log_share


@dataclass(frozen=True)
class DopplerConfig:
    """Sizes, imitation and the update."""

    groups: int = 64
    width: int = 32
    """Of embeddings."""
    hops: int = 2
    """Messages are passed so many times."""
    episodes: int = 16
    """Drawn for an update."""
    imitations: int = 50
    """Updates of the first stage, at most."""
    imitation_share: float = 0.2
    """Of the budget, at most."""
    imitation_lr: float = 1e-2
    random_share: float = 0.2
    """Of choices, at most: in the last of an update's episodes at the beginning; the first has
    none, and none are left when the budget is spent."""
    update: Update = field(default_factory=lambda: Update(lr=3e-3, entropy=0.1))


@dataclass(frozen=True, eq=False)
class _Decisions:
    """All decisions of some episodes, and what the policies saw of them."""

    ready: Float[Tensor, "states groups"]
    """1 for groups that might have been next."""
    group: Int64[Tensor, " states"]
    there: Float[Tensor, "states devices groups"]
    columns: Float[Tensor, "states devices columns"]
    may: Float[Tensor, "states devices"]
    device: Int64[Tensor, " states"]


@dataclass(frozen=True, eq=False)
class _Look:
    """What PLC sees of each device for a group of each episode: times in seconds, columns."""

    group: Int64[np.ndarray, " episodes"]
    begins: Float64[np.ndarray, "episodes devices"]
    ends: Float64[np.ndarray, "episodes devices"]
    there: Float[Tensor, "episodes devices groups"]
    columns: Float[Tensor, "episodes devices columns"]


@dataclass(frozen=True)
class DopplerPlacer:
    """A `Placer`: the best plan seen while training on the graph, whatever heuristics know."""

    config: DopplerConfig = field(default_factory=DopplerConfig)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Imitate, then train until the budget is spent, at least one update."""
        config = self.config
        groups = group_graph(problem, config.groups, seed)
        episodes = GroupEpisodes(problem, groups, 1, LogSpeedup(), "doppler", budget)
        if groups.is_decided:
            episodes.step(episodes.begin(1), groups.fastest[None])
            return episodes.placed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = DopplerNetwork(groups, config.width, config.hops)
        _imitate(network, groups, config, budget)
        weights = list(network.parameters())
        optimizer = torch.optim.Adam(weights, lr=config.update.lr)
        rng = torch.Generator().manual_seed(seed)
        while not episodes.evaluations or not budget.is_spent:
            share = min(budget.spent_seconds / budget.cpu_seconds, 1.0)
            random = torch.linspace(0.0, config.random_share * (1 - share), config.episodes)
            devices, decisions = _drawn(network, groups, random, rng)
            _, rewards = episodes.step(episodes.begin(config.episodes), devices)
            gain = gains(rewards[None])[0].repeat(groups.count)
            selected, placed = _log_chances(network, decisions, random.repeat(groups.count))
            weight = config.update.entropy * (1 - 0.9 * share)
            taken = _of(selected, decisions.group) + _of(placed, decisions.device)
            spread = entropy(selected).mean() + entropy(placed).mean()
            torch.autograd.backward(-(gain * taken).mean() - weight * spread)
            descend(optimizer, weights, config.update.max_grad_norm)
            on_progress(share)
        return episodes.placed()


def critical_path(groups: GroupGraph) -> tuple[Int64[np.ndarray, " groups"], _Decisions]:
    """What is imitated: of the ready groups the one with the longest way to the end, on the device
    where it ends first; the decisions, and the devices that come of them."""
    _, to_end, _ = chain_seconds(groups)
    made = _Making(groups, 1)
    for _ in range(groups.count):
        group = np.where(made.ready, to_end, -np.inf).argmax(axis=1)
        look = made.look(group)
        made.take(look, np.where(groups.allowed[group], look.ends, np.inf).argmin(axis=1))
    return made.schedules.devices[0], made.decisions()


def _imitate(
    network: DopplerNetwork, groups: GroupGraph, config: DopplerConfig, budget: Budget
) -> None:
    """Make the heuristic's decisions likelier; no plan is simulated for it."""
    weights = list(network.parameters())
    optimizer = torch.optim.Adam(weights, lr=config.imitation_lr)
    _, decisions = critical_path(groups)
    random = torch.zeros(groups.count)
    for _ in range(config.imitations):
        if budget.spent_seconds > config.imitation_share * budget.cpu_seconds:
            return
        selected, placed = _log_chances(network, decisions, random)
        taken = _of(selected, decisions.group) + _of(placed, decisions.device)
        torch.autograd.backward(-taken.mean())
        descend(optimizer, weights, config.update.max_grad_norm)


def _drawn(
    network: DopplerNetwork,
    groups: GroupGraph,
    random: Float[Tensor, " episodes"],
    rng: torch.Generator,
) -> tuple[Int64[np.ndarray, "episodes groups"], _Decisions]:
    """Episodes by the chances that the policies give, with a share of random choices in each."""
    made = _Making(groups, len(random))
    with torch.no_grad():
        embedded = network.embedded()
        scores = network.selecting(embedded).expand(len(random), -1)
        for _ in range(groups.count):
            ready = torch.from_numpy(made.ready).float()
            group = draw(_chances(scores, ready, random), rng)
            look = made.look(group)
            placing = network.placing(embedded, torch.from_numpy(group), look.there, look.columns)
            may = torch.from_numpy(groups.allowed[group]).float()
            made.take(look, draw(_chances(placing, may, random), rng))
    return made.schedules.devices, made.decisions()


def _log_chances(
    network: DopplerNetwork, decisions: _Decisions, random: Float[Tensor, " states"]
) -> tuple[Float[Tensor, "states groups"], Float[Tensor, "states devices"]]:
    """Of all groups and all devices in every decision."""
    embedded = network.embedded()
    selecting = network.selecting(embedded).expand(len(decisions.group), -1)
    placing = network.placing(embedded, decisions.group, decisions.there, decisions.columns)
    return (
        _chances(selecting, decisions.ready, random),
        _chances(placing, decisions.may, random),
    )


def _chances(
    scores: Float[Tensor, "states choices"],
    may: Float[Tensor, "states choices"],
    random: Float[Tensor, " states"],
) -> Float[Tensor, "states choices"]:
    return with_random_choices(masked_log_chance(scores, may), may, random)


def _of(
    log_chance: Float[Tensor, "states choices"], chosen: Int64[Tensor, " states"]
) -> Float[Tensor, " states"]:
    return log_chance.gather(1, chosen[:, None])[:, 0]


class _Making:
    """Episodes on their way, and what has been seen and decided in them."""

    def __init__(self, groups: GroupGraph, count: int) -> None:
        self.schedules = GroupSchedules(groups, count)
        self._groups = groups
        self._waits = np.tile((groups.adjacency > 0).sum(axis=0), (count, 1))
        self._taken: list[_Decisions] = []

    @property
    def ready(self) -> Bool[np.ndarray, "episodes groups"]:
        """Groups that are not placed yet while all that they read is."""
        return (self._waits == 0) & ~self.schedules.placed

    def look(self, group: Int64[np.ndarray, " episodes"]) -> _Look:
        """At all devices for a group of each episode: who is there, and times."""
        now, groups = self.schedules, self._groups
        arrival = now.arrival(group)
        begins = np.maximum(arrival, now.free)
        seconds = groups.seconds[group]
        ends = begins + seconds
        # Times of each device beside the best of them tell more than since the step's beginning.
        first = ends.min(axis=1, keepdims=True)
        span = groups.span_seconds
        columns = [
            log_share(seconds / span),
            *(np.clip((each - first) / span, -2.0, 2.0) for each in (arrival, now.free, begins)),
            np.clip(np.log1p((ends - first) / np.maximum(seconds, 1e-15)), 0.0, 4.0),
            np.minimum(now.busy / span, 4.0),
        ]
        there = now.placed[:, None, :] & (
            now.devices[:, None, :] == np.arange(groups.device_count)[:, None]
        )
        shares = there / np.maximum(there.sum(axis=2, keepdims=True), 1)
        return _Look(
            group,
            begins,
            ends,
            torch.from_numpy(shares).float(),
            torch.from_numpy(np.stack(columns, axis=2)).float(),
        )

    def take(self, look: _Look, device: Int64[np.ndarray, " episodes"]) -> None:
        """Place the group that was looked at in each episode, and keep what was seen."""
        group = look.group
        self._taken.append(
            _Decisions(
                torch.from_numpy(self.ready).float(),
                torch.from_numpy(group),
                look.there,
                look.columns,
                torch.from_numpy(self._groups.allowed[group]).float(),
                torch.from_numpy(device),
            )
        )
        self.schedules.place(group, device, look.begins[np.arange(len(group)), device])
        self._waits = self._waits - (self._groups.adjacency[group] > 0)

    def decisions(self) -> _Decisions:
        """All so far, step by step."""
        names = ("ready", "group", "there", "columns", "may", "device")
        return _Decisions(
            *(torch.cat([getattr(one, name) for one in self._taken]) for name in names)
        )
