"""Learning from what moves do: which of many tried moves improved the plan.

Every simulation of a moved group is a label. Scores become the logarithm of the odds that a move
improves: of those the large network makes whole proposals, before search begins, and from there
policy gradients go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import nn
from torch.nn import functional

from agent.learning.config import OutcomeConfig
from agent.learning.gradients import clip_gradients, sum_over_workers
from agent.learning.ranking import ranking_area
from agent.learning.rollout import task_scores
from agent.policy.inputs import collate
from agent.policy.state import EpisodeState, begin
from agent.policy.view import View
from envs.rewards import LogImprovement
from envs.tasks import Task
from placement.annealing.anneal import Annealer
from placement.placers.search import DEFAULT as SEARCH
from simulator.plan import Plan


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Moves that were tried at a state, and by how much each lowered the plan's energy."""

    view: View
    groups: Int32[np.ndarray, " moves"]
    devices: Int32[np.ndarray, " moves"]
    gains: Float32[np.ndarray, " moves"]


def try_moves(
    state: EpisodeState, reads_trace: bool, config: OutcomeConfig, rng: np.random.Generator
) -> Outcomes:
    """Try moves drawn evenly from each level, one at a time."""
    view = state.view(reads_trace)
    groups, devices = _drawn(state, view, config.moves_per_level, rng)
    labels = state.subject.groups.labels
    level_of = np.searchsorted(state.subject.groups.level_offsets, groups, side="right") - 1
    before = state.standing[Task.PLACEMENT]
    actions = [
        np.where(labels[level] == group, device, before).astype(np.int32)
        for level, group, device in zip(level_of, groups, devices, strict=True)
    ]
    if not actions:
        return Outcomes(view, groups, devices, np.zeros(0, np.float32))
    _, scores = state.step(actions, LogImprovement())
    gains = state.energy - scores.energies
    return Outcomes(view, groups, devices, gains.astype(np.float32))


def _drawn(
    state: EpisodeState, view: View, each: int, rng: np.random.Generator
) -> tuple[Int32[np.ndarray, " moves"], Int32[np.ndarray, " moves"]]:
    batch = collate([view], 128)
    open_to_all = torch.zeros(batch.allowed.shape).masked_fill(~batch.allowed, -torch.inf)
    groups, devices = [], []
    offsets = state.subject.groups.level_offsets.tolist()
    for first, last in pairwise(offsets):
        possible = task_scores(Task.PLACEMENT, open_to_all, batch, first, last, False)
        group, device = np.nonzero(torch.isfinite(possible).numpy())
        chosen = rng.choice(len(group), min(each, len(group)), replace=False)
        groups.append(group[chosen] + first)
        devices.append(device[chosen])
    return np.concatenate(groups).astype(np.int32), np.concatenate(devices).astype(np.int32)


def anneal_from(
    state: EpisodeState, config: OutcomeConfig, rng: np.random.Generator
) -> EpisodeState:
    """An episode that begins at the plan which some evaluations of search lead to, as hot as search
    may be at that time."""
    annealer = Annealer(
        state.instance.problem, state.subject.groups.hierarchy, SEARCH.neighbour_share
    )
    chain = annealer.start(state.plan.devices, state.plan.ranks, int(rng.integers(1 << 30)))
    moves = int(config.max_depth * rng.random() ** 2)
    heat = SEARCH.start_temperature * rng.random()
    chain = annealer.reprioritise(annealer.advance(chain, max(moves, 1), heat))
    plan = Plan.of(chain.devices, -chain.ranks.astype(np.float64))
    return begin(state.subject, state.rules, plan)


def learn_outcomes(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    outcomes: Sequence[Outcomes],
    config: OutcomeConfig,
    segment_ops: int,
    max_grad_norm: float,
    graphs_in_all: int,
    device: str = "cpu",
) -> dict[str, float]:
    """One step of logistic regression; returns the loss and how well scores rank moves.

    Where no move was tried, as on single devices, nothing is learned from this worker's graphs; if
    no worker tried any, the network stays as it is, whatever the optimizer's moments are.
    """
    batch = collate([item.view for item in outcomes], segment_ops).to(device)
    scores = policy(batch)[Task.PLACEMENT]
    loss, first, areas = scores.new_zeros(()), 0, []
    tried = 0
    for item in outcomes:
        mine = scores[first : first + item.view.groups.group_count]
        first += item.view.groups.group_count
        if not len(item.gains):
            continue
        tried += len(item.gains)
        at = torch.from_numpy(item.groups).long(), torch.from_numpy(item.devices).long()
        logits = mine[at]
        better = item.gains > config.least_gain
        wanted = torch.from_numpy(better.astype(np.float32)).to(logits)
        loss = loss + functional.binary_cross_entropy_with_logits(logits, wanted)
        areas.append(ranking_area(logits.detach().double().cpu().numpy(), better))
    optimizer.zero_grad(set_to_none=False)
    if loss.requires_grad:
        torch.autograd.backward(loss / graphs_in_all)
    total = sum_over_workers(policy, torch.stack([loss.detach(), loss.new_tensor(tried)]))
    if total[1] > 0:
        clip_gradients(policy.parameters(), max_grad_norm)
        optimizer.step()
    known = [area for area in areas if np.isfinite(area)]
    return {
        "outcome_loss": float(total[0]) / graphs_in_all,
        "outcome_area": float(np.mean(known)) if known else 0.5,
    }
