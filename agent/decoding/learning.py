"""Policy gradients on whole plans: the chances of the best plans of a graph rise, others' fall.

Many plans are drawn from one look at a graph; all of them are a step of its environment. What
counts is the best of many, so the best of a sample are weighed by their rank, against as many of
the rest (a risk-seeking policy gradient: Petersen et al., arXiv 1912.04871). The ratio that is
clipped is that of every single choice, as in GDP (arXiv 1910.01578).

Then regions of the best plan are redrawn, as they are when the policy is used. All plans of a
region share all other choices, so that what differs in their energies is what the region's choices
did: a lesson about a tenth of the choices, with a tenth of the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64
from torch import Tensor, nn

from agent.decoding.config import LearnConfig
from agent.decoding.network import OneShotPolicy, Said
from agent.decoding.sampling import draw_region, take_step
from agent.decoding.subject import Subject, choice_slices, collate_choices
from agent.learning.gradients import sum_over_workers
from envs.rules import Progress
from placement.decoding.decoder import DecisionScorer, Styles
from placement.decoding.drawing import Drawn
from placement.decoding.styles import draw_styles, pick

#: The lowest temperature at which chances are worked out.
_COLDEST = 0.1
#: Energies that differ by this much count as apart, where it is asked which style is best.
_APART = 0.03
#: A spread of energies below this teaches nothing.
_LEAST_SPREAD = 1e-6
#: A region whose plans differ by this much counts about three quarters of one that decides all.
_TELLING_SPREAD = 0.004


@dataclass(frozen=True, eq=False)
class Lesson:
    """Plans of one graph that are learned from: all choices of each, or those of a region."""

    choices: Int64[np.ndarray, " open"]
    """The choices that were drawn."""
    columns: Float32[np.ndarray, "plans open devices columns"]
    considered: Bool[np.ndarray, "plans open devices"]
    chosen: Int32[np.ndarray, "plans open"]
    styles: Int32[np.ndarray, " plans"]
    temperatures: Float64[np.ndarray, " plans"]
    worth: Float64[np.ndarray, " plans"]
    """What each counts: the best share 1 among them, the others minus 1."""


@dataclass(frozen=True, eq=False)
class Study:
    """All lessons of one graph."""

    lessons: tuple[Lesson, ...]
    style_target: Float64[np.ndarray, " styles"]
    """How likely each style's greedy plan is the best of them."""


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
    studies: list[Study | None] = []
    figures, best_plans = [], []
    for number, (subject, where, rng) in enumerate(zip(subjects, slices, rngs, strict=True)):
        scorer = said.scorer(number, where, subject.instance.problem.cluster.device_count)
        study, energies, best, best_plan = _study(scorer, subject, config, rng)
        best_plans.append(best_plan)
        mark = subject.instance.reference_energy
        figures.append(
            [np.median(energies) - mark, energies.min() - mark, best - mark, energies.std()]
        )
        studies.append(study)
    before: list[list[Tensor]] | None = None
    norm, entropy, clipped = 0.0, 0.0, 0.0
    for epoch in range(config.epochs):
        if epoch:
            said = policy(batch)
        terms = [
            _loss(said, number, where, study, config, None if before is None else before[number])
            for number, (where, study) in enumerate(zip(slices, studies, strict=True))
            if study is not None
        ]
        loss = sum((term[0] for term in terms), 0.0 * said.out.sum()) / config.graphs
        if before is None:
            kept = iter(terms)
            before = [[] if study is None else next(kept)[1] for study in studies]
        optimizer.zero_grad(set_to_none=False)
        torch.autograd.backward(loss)
        sum_over_workers(policy, loss.detach()[None])
        norm = float(nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm))
        optimizer.step()
        entropy = float(np.mean([term[2] for term in terms])) if terms else 0.0
        clipped = float(np.mean([term[3] for term in terms])) if terms else 0.0
    median, best, redrawn, spread = (float(value) for value in np.mean(figures, axis=0))
    plans = (config.plans + config.regions * config.redraws) * len(subjects)
    return Learned(median, best, redrawn, spread, entropy, clipped, norm, plans, tuple(best_plans))


def _study(
    scorer: DecisionScorer, subject: Subject, config: LearnConfig, rng: np.random.Generator
) -> tuple[Study | None, Float64[np.ndarray, " plans"], float, Progress]:
    """Draw plans of a graph and choose those to learn from; no study where all are as good.

    Returns:
        What to learn, the energies of the plans drawn from nothing, the energy of the best plan
        of all, and that plan.
    """
    problem = subject.instance.problem
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
        return None, energies, best.energy, best
    # Of greedy plans nothing is learned: at their temperature chances say too little.
    half = config.learned // 2
    order = np.argsort(energies, kind="stable")
    order = order[order >= min(count, config.plans - 2 * half)]
    picked = np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])
    own = pick(styles, picked)
    again = subject.decoder.draw(
        scorer, own, seed, np.ascontiguousarray(chosen[picked]), None, len(picked)
    )
    lessons = [_lesson(again, own, _worth_by_rank(half), np.arange(subject.decoder.choices.count))]
    alone = np.full(count, np.inf)
    alone[turns[:count]] = energies[:count]
    target = np.exp(-(alone - alone.min()) / _APART)
    kept = chosen[int(energies.argmin())]
    for _ in range(config.regions):
        lesson, best, kept = _redraw(scorer, subject, config, best, kept, rng)
        if lesson is not None:
            lessons.append(lesson)
    return Study(tuple(lessons), target / target.sum()), energies, best.energy, best


def _redraw(
    scorer: DecisionScorer,
    subject: Subject,
    config: LearnConfig,
    best: Progress,
    kept: Int32[np.ndarray, " choices"],
    rng: np.random.Generator,
) -> tuple[Lesson | None, Progress, Int32[np.ndarray, " choices"]]:
    """Redraw one region of the best plan several times; returns the best of all then."""
    plans, problem = config.redraws, subject.instance.problem
    is_open = draw_region(subject, config.redrawn, rng)
    turns = rng.integers(len(scorer.style_weights), size=plans).astype(np.int32)
    styles = draw_styles(problem, turns, replace(config.noise, fewer_devices=0.0), rng)
    hints = np.tile(kept, (plans, 1))
    given = np.where(is_open, np.int32(-1), hints)
    drawn = subject.decoder.draw(
        scorer, styles, int(rng.integers(1 << 62)), given, hints, plans, is_open
    )
    after, energies = take_step(subject, drawn.chosen)
    order = np.argsort(energies, kind="stable")
    lesson = None
    if energies.std() >= _LEAST_SPREAD:
        half = plans // 2
        worth = np.zeros(plans)
        worth[np.concatenate([order[:half], order[plans - half :]])] = _worth_by_rank(half)
        worth *= float(np.tanh(energies.std() / _TELLING_SPREAD))
        lesson = _lesson(drawn, styles, worth, np.flatnonzero(is_open))
    at = int(order[0])
    if after[at].energy < best.energy:
        return lesson, after[at], drawn.chosen[at]
    return lesson, best, kept


def _worth_by_rank(half: int) -> Float64[np.ndarray, " plans"]:
    """Of plans in the order of their energies: 1 among the better half, minus 1 among the rest."""
    ranks = np.linspace(1.0, 0.2, half)
    return np.concatenate([ranks / ranks.sum(), np.full(half, -1.0 / half)])


def _lesson(
    drawn: Drawn,
    styles: Styles,
    worth: Float64[np.ndarray, " plans"],
    choices: Int64[np.ndarray, " open"],
) -> Lesson:
    """What was seen and chosen at some of the choices."""
    return Lesson(
        choices,
        drawn.columns[:, choices],
        drawn.considered[:, choices],
        drawn.chosen[:, choices],
        styles.style,
        styles.temperature,
        worth,
    )


def _loss(
    said: Said,
    number: int,
    where: slice,
    study: Study,
    config: LearnConfig,
    before: list[Tensor] | None,
) -> tuple[Tensor, list[Tensor], float, float]:
    """The loss of one graph, the chances of its choices, their entropy, the share clipped."""
    parts = [
        _lesson_loss(said, number, where.start, lesson, config, None if before is None else old)
        for lesson, old in zip(study.lessons, before or study.lessons, strict=True)
    ]
    loss = parts[0][0]
    if len(parts) > 1:
        loss = loss + config.region_weight * torch.stack([part[0] for part in parts[1:]]).mean()
    target = torch.from_numpy(study.style_target).to(said.out)
    loss = loss - config.style_weight * (target * said.style_chances[number]).sum()
    return loss, [part[1] for part in parts], parts[0][2], parts[0][3]


def _lesson_loss(
    said: Said,
    number: int,
    first_choice: int,
    lesson: Lesson,
    config: LearnConfig,
    old: Float[Tensor, "plans open"] | None,
) -> tuple[Tensor, Float[Tensor, "plans open"], float, float]:
    device = said.out.device
    considered = torch.from_numpy(lesson.considered).to(device)
    chosen = torch.from_numpy(lesson.chosen.astype(np.int64)).to(device)
    styles: Int[Tensor, " plans"] = torch.from_numpy(lesson.styles.astype(np.int64)).to(device)
    columns = torch.from_numpy(lesson.columns).to(device)
    choices = torch.from_numpy(lesson.choices + first_choice).to(device)
    scores = said.score(number, choices, styles, columns, considered)
    heat = torch.from_numpy(np.maximum(lesson.temperatures, _COLDEST)).to(scores)
    logs = torch.log_softmax(scores / heat[:, None, None], dim=2)
    was_open = (considered.sum(dim=2) > 1) & considered.gather(2, chosen[..., None])[..., 0]
    nothing = logs.new_zeros(())
    chances = torch.where(was_open, logs.gather(2, chosen[..., None])[..., 0], nothing)
    ratio = torch.exp(chances - (chances.detach() if old is None else old))
    worth = torch.from_numpy(lesson.worth).to(scores)[:, None]
    limited = ratio.clamp(1 - config.clip, 1 + config.clip)
    gains = torch.where(was_open, torch.minimum(ratio * worth, limited * worth), nothing)
    open_count = was_open.sum(dim=1).double().mean().clamp(min=1.0).to(scores)
    loss = -gains.sum() / open_count.sqrt()
    spread = -(logs.exp() * logs.clamp(min=-30.0)).sum(dim=2)
    entropy = torch.where(was_open, spread, nothing).sum() / was_open.sum().clamp(min=1)
    clipped = (was_open & (limited != ratio)).sum() / was_open.sum().clamp(min=1)
    return loss, chances.detach(), float(entropy.detach()), float(clipped)
