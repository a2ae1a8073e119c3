"""Policy gradients on whole plans: the chances of the best plans of a graph rise, others' fall.

Many plans are drawn from one look at a graph; all of them are a step of its environment. What
counts is the best of many, so the best of a sample are weighed by their rank, against as many of
the rest (a risk-seeking policy gradient: Petersen et al., arXiv 1912.04871). The ratio that is
clipped is that of every single choice, as in GDP (arXiv 1910.01578).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int32
from torch import Tensor, nn

from agent.decoding.config import LearnConfig
from agent.decoding.network import OneShotPolicy, Said
from agent.decoding.sampling import take_step
from agent.decoding.subject import Subject, choice_slices, collate_choices
from agent.learning.gradients import sum_over_workers
from envs.rules import Progress
from placement.decoding.drawing import Drawn
from placement.decoding.styles import draw_styles, pick

#: The lowest temperature at which chances are worked out.
_COLDEST = 0.1
#: Energies that differ by this much count as apart, where it is asked which style is best.
_APART = 0.03
#: A spread of energies below this teaches nothing.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class Lesson:
    """Plans of one graph that are learned from."""

    drawn: Drawn
    styles: Int32[np.ndarray, " plans"]
    temperatures: Float64[np.ndarray, " plans"]
    worth: Float64[np.ndarray, " plans"]
    """What each counts: the best share 1 among them, the others minus 1."""
    style_target: Float64[np.ndarray, " styles"]
    """How likely each style's greedy plan is the best of them."""


@dataclass(frozen=True)
class Learned:
    """What a batch came to, in means over its graphs."""

    median: float
    """The median energy above that of the marks."""
    best: float
    """The best plan's energy above that of the marks."""
    spread: float
    entropy: float
    """Nats per choice."""
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
    slices = choice_slices(subjects)
    said = policy(batch)
    lessons: list[Lesson | None] = []
    figures, best_plans = [], []
    for number, (subject, where, rng) in enumerate(zip(subjects, slices, rngs, strict=True)):
        lesson, energies, best_plan = _draw_lesson(said, number, subject, where, config, rng)
        best_plans.append(best_plan)
        mark = subject.instance.reference_energy
        figures.append([np.median(energies) - mark, energies.min() - mark, energies.std()])
        lessons.append(lesson)
    before: list[Tensor] | None = None
    norm, entropy, clipped = 0.0, 0.0, 0.0
    for epoch in range(config.epochs):
        if epoch:
            said = policy(batch)
        terms = [
            _loss(said, number, where, lesson, config, None if before is None else before[number])
            for number, (where, lesson) in enumerate(zip(slices, lessons, strict=True))
            if lesson is not None
        ]
        loss = sum((term[0] for term in terms), 0.0 * said.out.sum()) / config.graphs
        if before is None:
            kept = iter(terms)
            before = [
                said.out.new_zeros(0) if lesson is None else next(kept)[1] for lesson in lessons
            ]
        optimizer.zero_grad(set_to_none=False)
        torch.autograd.backward(loss)
        sum_over_workers(policy, loss.detach()[None])
        norm = float(nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm))
        optimizer.step()
        entropy = float(np.mean([term[2] for term in terms])) if terms else 0.0
        clipped = float(np.mean([term[3] for term in terms])) if terms else 0.0
    means = np.mean(figures, axis=0)
    median, best, spread = (float(value) for value in means)
    plans = config.plans * len(subjects)
    return Learned(median, best, spread, entropy, clipped, norm, plans, tuple(best_plans))


def _draw_lesson(
    said: Said,
    number: int,
    subject: Subject,
    where: slice,
    config: LearnConfig,
    rng: np.random.Generator,
) -> tuple[Lesson | None, Float64[np.ndarray, " plans"], Progress]:
    """Draw plans and choose those to learn from; nothing to learn where all are as good."""
    problem = subject.instance.problem
    scorer = said.scorer(number, where, problem.cluster.device_count)
    count = len(scorer.style_weights)
    turns = np.concatenate([np.arange(count), count + rng.permutation(config.plans)])
    turns = turns[: config.plans] % count
    # The first plan of each style is its greedy one: they tell which style to trust.
    styles = draw_styles(problem, turns.astype(np.int32), config.noise, rng, count)
    seed = int(rng.integers(1 << 62))
    chosen = subject.decoder.draw(scorer, styles, seed).chosen
    after, energies = take_step(subject, chosen)
    best = after[int(energies.argmin())]
    if energies.std() < _LEAST_SPREAD:
        return None, energies, best
    # Of greedy plans nothing is learned: at their temperature chances say too little.
    half = config.learned // 2
    order = np.argsort(energies, kind="stable")
    order = order[order >= min(count, config.plans - 2 * half)]
    picked = np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])
    ranks = np.linspace(1.0, 0.2, half)
    worth = np.concatenate([ranks / ranks.sum(), np.full(half, -1.0 / half)])
    again = subject.decoder.draw(
        scorer, pick(styles, picked), seed, np.ascontiguousarray(chosen[picked]), None, len(picked)
    )
    alone = np.full(count, np.inf)
    alone[turns[:count]] = energies[:count]
    target = np.exp(-(alone - alone.min()) / _APART)
    return (
        Lesson(
            again, styles.style[picked], styles.temperature[picked], worth, target / target.sum()
        ),
        energies,
        best,
    )


def _loss(
    said: Said,
    number: int,
    where: slice,
    lesson: Lesson,
    config: LearnConfig,
    before: Float[Tensor, "plans choices"] | None,
) -> tuple[Tensor, Float[Tensor, "plans choices"], float, float]:
    """The loss of one graph, the chances of its choices, their entropy, the share clipped."""
    device = said.out.device
    considered = torch.from_numpy(lesson.drawn.considered).to(device)
    chosen = torch.from_numpy(lesson.drawn.chosen.astype(np.int64)).to(device)
    styles: Int[Tensor, " plans"] = torch.from_numpy(lesson.styles.astype(np.int64)).to(device)
    columns = torch.from_numpy(lesson.drawn.columns).to(device)
    scores = said.score(number, where, styles, columns, considered)
    heat = torch.from_numpy(np.maximum(lesson.temperatures, _COLDEST)).to(scores)
    logs = torch.log_softmax(scores / heat[:, None, None], dim=2)
    was_open = (considered.sum(dim=2) > 1) & considered.gather(2, chosen[..., None])[..., 0]
    nothing = logs.new_zeros(())
    chances = torch.where(was_open, logs.gather(2, chosen[..., None])[..., 0], nothing)
    old = chances.detach() if before is None else before
    ratio = torch.exp(chances - old)
    worth = torch.from_numpy(lesson.worth).to(scores)[:, None]
    limited = ratio.clamp(1 - config.clip, 1 + config.clip)
    gains = torch.where(was_open, torch.minimum(ratio * worth, limited * worth), nothing)
    open_count = was_open.sum(dim=1).double().mean().clamp(min=1.0).to(scores)
    target = torch.from_numpy(lesson.style_target).to(scores)
    loss = -gains.sum() / open_count.sqrt()
    loss = loss - config.style_weight * (target * said.style_chances[number]).sum()
    spread = -(logs.exp() * logs.clamp(min=-30.0)).sum(dim=2)
    entropy = torch.where(was_open, spread, nothing).sum() / was_open.sum().clamp(min=1)
    clipped = (was_open & (limited != ratio)).sum() / was_open.sum().clamp(min=1)
    return loss, chances.detach(), float(entropy.detach()), float(clipped)
