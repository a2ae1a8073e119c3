"""Policy gradients on whole plans: the chances of the better plans of a graph rise, others' fall.

The ratio that is clipped is that of every single choice, as in GDP (arXiv 1910.01578).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent.decoding.config import LearnConfig
from agent.decoding.network import OneShotPolicy, Said, first_chances
from agent.decoding.studies import Lesson, Study, study
from agent.decoding.subject import Subject, choice_slices, collate_choices, op_slices
from agent.learning.gradients import clip_gradients, sum_over_workers
from envs.rules import Progress

#: The lowest temperature at which chances are worked out.
_COLDEST = 0.1


@dataclass(frozen=True, eq=False)
class _Place:
    """Where one graph of a batch is, in what the network said."""

    said: Said
    graph: int
    choices: slice
    ops: slice


@dataclass(frozen=True, eq=False)
class _Terms:
    """What a graph's lessons add to the loss."""

    loss: Tensor
    chances: tuple[Tensor, ...]
    """Of everything that was drawn, table after table."""
    entropy: float
    clipped_share: float


@dataclass(frozen=True)
class Learned:
    """What a batch came to, in means over its graphs."""

    median: float
    """The median energy above that of the marks."""
    best: float
    """The best plan's energy above that of the marks, before regions are redrawn."""
    redrawn: float
    """The same after that."""
    spread: float
    entropy: float
    """Nats per choice of a device."""
    moved: float
    """The share of ops that are likely to have another priority or kernel than by heuristics."""
    clipped_share: float
    grad_norm: float
    plans: int
    """Drawn in this batch, by this worker."""
    best_plans: tuple[Progress, ...] = ()
    """Of each graph, where the episode with the best plan stands."""

    @property
    def figures(self) -> dict[str, float]:
        """The numbers alone, by name."""
        names = [item.name for item in fields(self) if item.name != "best_plans"]
        return {name: float(getattr(self, name)) for name in names}


def learn_from_plans(
    policy: OneShotPolicy,
    optimizer: torch.optim.Optimizer,
    subjects: Sequence[Subject],
    rngs: Sequence[np.random.Generator],
    config: LearnConfig,
    device: str = "cpu",
) -> Learned:
    """Draw plans of some graphs and improve the policy by them.

    Args:
        policy: changed in place.
        subjects: this worker's graphs of the batch.
        rngs: of each graph's draws.
        config: how much is drawn and learned.
        device: torch's device of the network.
    """
    batch = collate_choices(subjects, policy.config.segment_ops).to(device)
    where = list(zip(choice_slices(subjects), op_slices(subjects), strict=True))
    said = policy(batch)
    studies = [
        study(
            said.scorer(graph, choices, subject.instance.problem.cluster.device_count),
            said.level_chances(ops),
            subject,
            config,
            rng,
        )
        for graph, (subject, (choices, ops), rng) in enumerate(
            zip(subjects, where, rngs, strict=True)
        )
    ]
    taught = [graph for graph, found in enumerate(studies) if found.lessons]
    before: dict[int, tuple[Tensor, ...]] = {}
    norm, entropy, clipped = 0.0, 0.0, 0.0
    for epoch in range(config.epochs):
        if epoch:
            said = policy(batch)
        terms = {
            graph: _terms(
                _Place(said, graph, *where[graph]), studies[graph], config, before.get(graph)
            )
            for graph in taught
        }
        loss = sum((term.loss for term in terms.values()), _nothing(said)) / config.graphs
        if not epoch:
            before = {graph: term.chances for graph, term in terms.items()}
        optimizer.zero_grad(set_to_none=False)
        torch.autograd.backward(loss)
        sum_over_workers(policy, loss.detach()[None])
        norm = clip_gradients(policy.parameters(), config.max_grad_norm)
        optimizer.step()
        if terms:
            entropy = float(np.mean([term.entropy for term in terms.values()]))
            clipped = float(np.mean([term.clipped_share for term in terms.values()]))
    marks = [subject.instance.reference_energy for subject in subjects]
    found = [item.energies for item in studies]
    return Learned(
        _mean([np.median(energies) for energies in found], marks),
        _mean([energies.min() for energies in found], marks),
        _mean([item.best.energy for item in studies], marks),
        float(np.mean([energies.std() for energies in found])),
        entropy,
        _moved_share(said),
        clipped,
        norm,
        (config.plans + config.regions * config.redraws) * len(subjects),
        tuple(item.best for item in studies),
    )


def _mean(energies: Sequence[float], marks: Sequence[float]) -> float:
    return float(np.mean(np.subtract(energies, marks)))


def _nothing(said: Said) -> Tensor:
    """Zero that depends on every head, so that none is left without a gradient."""
    return 0.0 * (said.out.sum() + said.schedule[:1].sum() + said.fusion[:1].sum())


def _moved_share(said: Said) -> float:
    with torch.no_grad():
        stays = said.schedule[:, 0].exp() * said.fusion[:, 0].exp()
        return float(1.0 - stays.mean())


def _terms(
    place: _Place, found: Study, config: LearnConfig, before: tuple[Tensor, ...] | None
) -> _Terms:
    """The loss of one graph's lessons: of whole plans, the mean over regions, the styles."""
    said = place.said
    parts: list[_Terms] = []
    taken = 0
    for lesson in found.lessons:
        tables = 1 if len(lesson.ops) == 0 else 3
        old = None if before is None else before[taken : taken + tables]
        taken += tables
        parts.append(_lesson_terms(place, lesson, config, old))
    loss = parts[0].loss
    if len(parts) > 1:
        regions = torch.stack([part.loss for part in parts[1:]])
        loss = loss + config.region_weight * regions.mean()
    target = torch.from_numpy(found.style_target).to(said.out)
    loss = loss - config.style_weight * (target * said.style_chances[place.graph]).sum()
    chances = tuple(table for part in parts for table in part.chances)
    return _Terms(loss, chances, parts[0].entropy, parts[0].clipped_share)


def _lesson_terms(
    place: _Place, lesson: Lesson, config: LearnConfig, old: tuple[Tensor, ...] | None
) -> _Terms:
    """Devices, and where they are decided priorities and kernels."""
    said = place.said
    device = said.out.device
    considered = torch.from_numpy(lesson.considered).to(device)
    chosen = torch.from_numpy(lesson.chosen.astype(np.int64)).to(device)
    styles = torch.from_numpy(lesson.styles.astype(np.int64)).to(device)
    columns = torch.from_numpy(lesson.columns).to(device)
    choices = torch.from_numpy(lesson.choices + place.choices.start).to(device)
    scores = said.score(place.graph, choices, styles, columns, considered)
    heat = torch.from_numpy(np.maximum(lesson.temperatures, _COLDEST)).to(scores)
    logs = torch.log_softmax(scores / heat[:, None, None], dim=2)
    was_open = (considered.sum(dim=2) > 1) & considered.gather(2, chosen[..., None])[..., 0]
    nothing = logs.new_zeros(())
    loss = nothing
    chances = [torch.where(was_open, logs.gather(2, chosen[..., None])[..., 0], nothing)]
    masks = [was_open]
    if len(lesson.ops):
        ops = torch.from_numpy(lesson.ops + place.ops.start).to(device)
        for table, drawn in zip((said.schedule, said.fusion), lesson.levels, strict=True):
            taken = torch.from_numpy(drawn.astype(np.int64)).to(device)
            own = table[ops]
            strayed = own.exp() * (own - first_chances(own.shape[1]).to(own))
            loss = loss + config.level_prior * strayed.sum() / len(ops) ** 0.5
            spread_out = own[None].expand(len(taken), -1, -1)
            chances.append(spread_out.gather(2, taken[..., None])[..., 0])
            masks.append(torch.ones_like(taken, dtype=torch.bool))
    worth = torch.from_numpy(lesson.worth).to(scores)[:, None]
    clipped = 0.0
    for number, (now, mask) in enumerate(zip(chances, masks, strict=True)):
        was = now.detach() if old is None else old[number]
        gain, share = _clipped_gain(now - was, worth, mask, config.clip)
        loss = loss - gain
        clipped = max(clipped, share)
    spread = -(logs.exp() * logs.clamp(min=-30.0)).sum(dim=2)
    entropy = torch.where(was_open, spread, nothing).sum() / was_open.sum().clamp(min=1)
    kept = tuple(table.detach() for table in chances)
    return _Terms(loss, kept, float(entropy.detach()), clipped)


def _clipped_gain(
    change: Float[Tensor, "plans drawn"],
    worth: Float[Tensor, "plans 1"],
    was_open: Bool[Tensor, "plans drawn"],
    clip: float,
) -> tuple[Tensor, float]:
    """PPO's surrogate for each single choice, over the root of their number; the share clipped."""
    ratio = torch.exp(change)
    limited = ratio.clamp(1 - clip, 1 + clip)
    gains = torch.where(was_open, torch.minimum(ratio * worth, limited * worth), 0.0)
    count = was_open.sum(dim=1).double().mean().clamp(min=1.0).to(gains)
    share = (was_open & (limited != ratio)).sum() / was_open.sum().clamp(min=1)
    return gains.sum() / count.sqrt(), float(share)
