"""HDP (Mirhoseini et al., "A Hierarchical Model for Device Placement", ICLR 2018).

A feed-forward *grouper* assigns ops to groups; a sequence-to-sequence *placer*, a bidirectional
LSTM read by an LSTM with attention, assigns groups to devices. Both are trained together with
REINFORCE on the graph at hand, from scratch, by minus the square root of the step time, as the
environment's reward `sqrt-time` says; a plan that does not fit the less the more it is over.

Departures, in its favour where they matter: units that must stay together are grouped as one; the
order on each device is critical-path priority instead of TensorFlow's; several groupings are drawn
for an update instead of one; an entropy bonus stands for the noise that the paper adds; 64 groups
instead of 256; the learning rate is smaller than the paper's 0.1 and there is no sampling
temperature.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int32, Int64
from torch import Tensor, nn

from agent.baselines.tensorflow_default import first_accelerator
from agent.learning.gradients import clip_gradients
from envs.decision import first_of_units
from envs.episodes import Prepared
from envs.instance import Instance
from envs.rewards import SqrtTime
from envs.rules import Rules, advance, begin
from envs.tasks import Task
from graphs.kinds import OpKind
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.problem import Problem
from simulator.plan import Plan

#: Neighbours on each side that the grouper sees.
_NEIGHBOURS = 3

#: A reward is never worse, however slow the plan: that of a plan that failed.
_WORST_REWARD = -4.0

#: In standard deviations.
_LARGEST_GAIN = 4.0


@dataclass(frozen=True)
class HdpConfig:
    """Sizes and the update."""

    groups: int = 64
    width: int = 64
    """Hidden units of grouper and LSTMs."""
    groupings: int = 4
    """Drawn for an update."""
    placements: int = 8
    """Drawn for each grouping."""
    lr: float = 3e-3
    entropy: float = 1.0
    """Weight at the beginning, over the root of the number of choices; falls to a tenth. That is
    about what a single choice can explain of rewards of unit variance."""
    updates: int | None = None
    """At most, whatever is left of the budget."""
    tanh_limit: float = 5.0
    """Scores are squashed to plus and minus this."""
    baseline_decay: float = 0.9
    """Decay of the moving average of rewards."""
    max_grad_norm: float = 1.0


@dataclass(frozen=True, eq=False)
class UnitFeatures:
    """What the grouper reads of each unit, and what groups are described by."""

    columns: Float[Tensor, "units columns"]
    kinds: Float[Tensor, "units kinds"]
    """Share of each kind among a unit's ops."""
    output_log: Float[Tensor, " units"]
    edges: Int64[np.ndarray, "2 unit_edges"]


class Grouper(nn.Module):
    """Scores of groups for each unit."""

    def __init__(self, columns: int, groups: int, config: HdpConfig) -> None:
        super().__init__()
        self.limit = config.tanh_limit
        self.layers = nn.Sequential(
            nn.Linear(columns, config.width), nn.ReLU(), nn.Linear(config.width, groups)
        )

    def forward(self, units: Float[Tensor, "units columns"]) -> Float[Tensor, "units groups"]:
        return self.limit * torch.tanh(self.layers(units))


class SequencePlacer(nn.Module):
    """Devices for groups, one after the other, each fed with the device before."""

    def __init__(self, columns: int, devices: int, config: HdpConfig) -> None:
        super().__init__()
        width = config.width
        self.limit = config.tanh_limit
        self.encoder = nn.LSTM(columns, width // 2, batch_first=True, bidirectional=True)
        self.before = nn.Embedding(devices + 1, width)
        self.cell = nn.LSTMCell(2 * width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(2 * width, devices)

    def forward(
        self, groups: Float[Tensor, "samples groups columns"], rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Devices of each group, the mean log chance of them, and the mean entropy."""
        encoded, _ = self.encoder(groups)
        samples, count, width = encoded.shape
        hidden = encoded.mean(dim=1)
        memory = torch.zeros_like(hidden)
        last = torch.zeros(samples, dtype=torch.long)
        devices, chances, entropy = [], [], encoded.new_zeros(samples)
        for group in range(count):
            given = torch.cat([encoded[:, group], self.before(last)], dim=1)
            hidden, memory = self.cell(given, (hidden, memory))
            weights = torch.softmax(
                torch.einsum("sgw,sw->sg", encoded, self.query(hidden)) / width**0.5, dim=1
            )
            heard = torch.einsum("sg,sgw->sw", weights, encoded)
            raw = self.score(torch.cat([hidden, heard], dim=1))
            log_chance = torch.log_softmax(self.limit * torch.tanh(raw), dim=1)
            chosen = torch.multinomial(log_chance.detach().exp(), 1, generator=rng)
            devices.append(chosen[:, 0])
            chances.append(log_chance.gather(1, chosen)[:, 0])
            entropy = entropy - (log_chance.exp() * log_chance).sum(dim=1) / count
            last = chosen[:, 0] + 1
        return torch.stack(devices, dim=1), torch.stack(chances, dim=1).mean(dim=1), entropy


@dataclass(frozen=True)
class HdpPlacer:
    """A `Placer`: the best plan seen while training on the graph, whatever heuristics know."""

    config: HdpConfig = field(default_factory=HdpConfig)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Train until the budget is spent, at least one update."""
        config = self.config
        features = unit_features(problem)
        group_count = min(config.groups, problem.unit_count)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            grouper = Grouper(features.columns.shape[1], group_count, config)
            columns = features.kinds.shape[1] + 2 + group_count
            placer = SequencePlacer(columns, problem.cluster.device_count, config)
        weights = [*grouper.parameters(), *placer.parameters()]
        optimizer = torch.optim.Adam(weights, lr=config.lr)
        rng = torch.Generator().manual_seed(seed)
        scorer = _Scorer(problem)
        best: Candidate | None = None
        progress: list[tuple[float, float]] = []
        usual: float | None = None
        evaluations = number = 0
        most = np.inf if config.updates is None else config.updates
        while best is None or (number < most and not budget.is_spent):
            log_chance = torch.log_softmax(grouper(features.columns), dim=1)
            grouped = torch.multinomial(
                log_chance.detach().exp(), config.groupings, replacement=True, generator=rng
            ).T
            described = torch.stack(
                [group_features(features, each, group_count) for each in grouped]
            )
            devices, placed_chance, entropy = placer(
                described.repeat_interleave(config.placements, dim=0), rng
            )
            of_units = devices.gather(1, grouped.repeat_interleave(config.placements, dim=0))
            rewards, candidate = scorer.score(of_units.numpy(), f"hdp:{number + 1}")
            evaluations += len(rewards)
            if best is None or candidate.rank_key < best.rank_key:
                best = candidate
                progress.append((budget.spent_seconds, best.evaluation.makespan_seconds))
            mean = float(rewards.mean())
            above = rewards - (mean if usual is None else usual)
            above = np.clip(above / max(float(rewards.std()), 1e-6), -_LARGEST_GAIN, _LARGEST_GAIN)
            gains = torch.from_numpy(above).float()
            decay = config.baseline_decay
            usual = mean if usual is None else decay * usual + (1 - decay) * mean
            grouping_chance = log_chance.gather(1, grouped.T).mean(dim=0)
            share = min(max(budget.spent_seconds / budget.cpu_seconds, number / most), 1.0)
            spread = entropy.mean() / group_count**0.5
            own = -(log_chance.exp() * log_chance).sum(dim=1).mean()
            spread = spread + own / problem.unit_count**0.5
            loss = -(gains * placed_chance).mean()
            loss = loss - (gains.view(config.groupings, -1).mean(dim=1) * grouping_chance).mean()
            loss = loss - config.entropy * (1 - 0.9 * share) * spread
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            clip_gradients(weights, config.max_grad_norm)
            optimizer.step()
            on_progress(share)
            number += 1
        return Placed(best, (best,), tuple(progress), evaluations)


class _Scorer:
    """Steps of the environment from devices of units; times are relative to one device's."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        mark = Plan.of(first_accelerator(problem))
        self._prepared = Prepared(Instance(problem.graph.name, problem, given_mark=mark))
        self._rules = Rules((Task.PLACEMENT,))
        self._first_allowed = problem.unit_allowed.argmax(axis=1)

    def score(
        self, of_units: Int64[np.ndarray, "samples units"], origin: str
    ) -> tuple[Float64[np.ndarray, " samples"], Candidate]:
        """Rewards, and the best of the plans."""
        start = begin(self._prepared, self._rules)
        actions = [self._action(each) for each in of_units]
        after, scores = advance(
            self._prepared, self._rules, [start] * len(actions), actions, SqrtTime()
        )
        best = after[int(np.argmin(scores.energies))]
        assert best.plan is not None and best.evaluation is not None, "only legal devices are taken"
        candidate = Candidate(best.plan, best.evaluation, origin)
        return np.maximum(scores.rewards, _WORST_REWARD), candidate

    def _action(self, devices: Int64[np.ndarray, " units"]) -> Int32[np.ndarray, " ops"]:
        problem = self._problem
        allowed = problem.unit_allowed[np.arange(len(devices)), devices]
        legal = np.where(allowed, devices, self._first_allowed)
        return legal[problem.unit_of].astype(np.int32)


def unit_features(problem: Problem) -> UnitFeatures:
    """Kinds, sizes of outputs, numbers and positions of neighbours."""
    graph, units, count = problem.graph, problem.unit_of, problem.unit_count
    members = np.bincount(units, minlength=count)
    kinds = np.zeros((count, len(OpKind)))
    np.add.at(kinds, (units, graph.kinds.astype(np.int64)), 1.0)
    kinds /= members[:, None]
    output = np.bincount(units[graph.tensor_producers], graph.tensor_bytes, minlength=count)
    edges = _unit_edges(problem)
    position = first_of_units(problem) / max(graph.op_count - 1, 1)
    columns = [
        kinds,
        _logs(output)[:, None],
        _logs(np.bincount(edges[0], minlength=count))[:, None],
        _logs(np.bincount(edges[1], minlength=count))[:, None],
        position[:, None],
        _neighbours(edges[0], edges[1], position),
        _neighbours(edges[1], edges[0], position),
    ]
    return UnitFeatures(
        torch.from_numpy(np.concatenate(columns, axis=1)).float(),
        torch.from_numpy(kinds).float(),
        torch.from_numpy(_logs(output)).float(),
        edges,
    )


def group_features(
    units: UnitFeatures, group_of: Int64[Tensor, " units"], groups: int
) -> Float[Tensor, "{groups} columns"]:
    """Kinds, outputs and size of each group, and how its edges spread over the others."""
    size = torch.bincount(group_of, minlength=groups).float()
    kinds = torch.zeros(groups, units.kinds.shape[1]).index_add(0, group_of, units.kinds)
    outputs = torch.zeros(groups).index_add(0, group_of, units.output_log)
    of_edge = group_of.numpy()[units.edges]
    pairs = np.bincount(of_edge[0] * groups + of_edge[1], minlength=groups * groups)
    adjacency = torch.from_numpy(pairs).float().view(groups, groups)
    adjacency = adjacency + adjacency.T
    adjacency = adjacency / adjacency.sum(dim=1, keepdim=True).clamp(min=1.0)
    divisor = size.clamp(min=1.0)
    own = torch.stack([outputs / divisor, torch.log1p(size)], dim=1)
    return torch.cat([kinds / divisor[:, None], own, adjacency], dim=1)


def _unit_edges(problem: Problem) -> Int64[np.ndarray, "2 unit_edges"]:
    """Producer and consumer of every edge between different units."""
    graph, units = problem.graph, problem.unit_of
    producers = np.repeat(graph.tensor_producers, np.diff(graph.consumer_offsets))
    ends = np.stack([units[producers], units[graph.consumers]]).astype(np.int64)
    return ends[:, ends[0] != ends[1]]


def _neighbours(
    own: np.ndarray, other: np.ndarray, position: np.ndarray
) -> Float64[np.ndarray, "units neighbours"]:
    """Positions of each unit's first few neighbours, -1 where there are fewer."""
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(len(position)))
    nth = np.arange(len(own)) - starts[own[order]]
    seen = nth < _NEIGHBOURS
    neighbours = np.full((len(position), _NEIGHBOURS), -1.0)
    neighbours[own[order][seen], nth[seen]] = position[other[order][seen]]
    return neighbours


def _logs(values: Float64[np.ndarray, " units"] | Int64[np.ndarray, " units"]) -> np.ndarray:
    """Logarithms between 0 and about 1."""
    return np.log1p(values) / 20.0
