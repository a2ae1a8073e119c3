"""What is learned from one graph: plans drawn from one look at it, and which of them are better.

Many plans are drawn from nothing; all of them are a step of its environment. What counts is the
best of many, so the best of a sample are weighed by their rank, against as many of the rest (a
risk-seeking policy gradient: Petersen et al., arXiv 1912.04871).

Then regions of the best plan are redrawn, as they are when the policy is used. All plans of a
region share all other choices, so that what differs in their energies is what the region's choices
did: a lesson about a tenth of the choices, with a tenth of the noise.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from agent.decoding.config import LearnConfig
from agent.decoding.levels import LevelChances, Levels
from agent.decoding.sampling import draw_region, levels_for, redraw_levels, take_step
from agent.decoding.subject import Subject
from envs.rules import Progress
from placement.decoding.decoder import DecisionScorer, Styles
from placement.decoding.drawing import Drawn
from placement.decoding.styles import draw_styles, pick

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
    ops: Int64[np.ndarray, " open_ops"]
    """Ops whose levels were drawn; none where devices alone are decided."""
    levels: Levels
    """Of these ops."""
    worth: Float64[np.ndarray, " plans"]
    """What each counts: the best share 1 among them, the others minus 1."""


@dataclass(frozen=True, eq=False)
class Study:
    """What was found on one graph, and all lessons from it."""

    energies: Float64[np.ndarray, " plans"]
    """Of the plans drawn from nothing."""
    best: Progress
    """The best plan of all."""
    lessons: tuple[Lesson, ...] = ()
    """None where all plans are as good."""
    style_target: Float64[np.ndarray, " styles"] | None = None
    """How likely each style's greedy plan is the best of them."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """The best plan so far."""

    progress: Progress
    chosen: Int32[np.ndarray, " choices"]
    levels: Levels


def study(
    scorer: DecisionScorer,
    chances: LevelChances,
    subject: Subject,
    config: LearnConfig,
    rng: np.random.Generator,
) -> Study:
    """Draw plans of a graph and choose those to learn from.

    Args:
        scorer: what the network said of choices and devices.
        chances: and of priorities and kernels.
        subject: the graph.
        config: how much is drawn, and learned.
        rng: of all draws.
    """
    problem = subject.instance.problem
    count = len(scorer.style_weights)
    turns = np.concatenate([np.arange(count), count + rng.permutation(config.plans)])
    turns = turns[: config.plans] % count
    # The first plan of each style is its greedy one: they tell which style to trust.
    styles = draw_styles(problem, turns.astype(np.int32), config.noise, rng, count)
    seed = int(rng.integers(1 << 62))
    chosen = subject.decoder.draw(scorer, styles, seed).chosen
    is_drawn = np.arange(config.plans) >= count
    levels = levels_for(chances, subject, is_drawn, np.ones(config.plans, bool), rng)
    after, energies = take_step(subject, chosen, levels)
    at = int(energies.argmin())
    best = _Kept(after[at], chosen[at], levels.of(at))
    if energies.std() < _LEAST_SPREAD or not _groups(styles.temperature, is_drawn):
        return Study(energies, best.progress)
    picked, worth = _compare_alike(energies, styles.temperature, is_drawn, config.learned, rng)
    own = pick(styles, picked)
    again = subject.decoder.draw(
        scorer, own, seed, np.ascontiguousarray(chosen[picked]), None, len(picked)
    )
    every = np.ones(subject.decoder.choices.count, bool)
    lessons = [_lesson(subject, again, own, levels.pick(picked), worth, every)]
    alone = np.full(count, np.inf)
    alone[turns[:count]] = energies[:count]
    target = np.exp(-(alone - alone.min()) / _APART)
    for _ in range(config.regions):
        lesson, best = _redraw(scorer, chances, subject, config, best, rng)
        if lesson is not None:
            lessons.append(lesson)
    return Study(energies, best.progress, tuple(lessons), target / target.sum())


def _redraw(
    scorer: DecisionScorer,
    chances: LevelChances,
    subject: Subject,
    config: LearnConfig,
    best: _Kept,
    rng: np.random.Generator,
) -> tuple[Lesson | None, _Kept]:
    """Redraw one region of the best plan several times; returns the best of all then."""
    plans, problem = config.redraws, subject.instance.problem
    is_open = draw_region(subject, config.redrawn, rng)
    turns = rng.integers(len(scorer.style_weights), size=plans).astype(np.int32)
    # At one temperature, as plans from nothing are compared.
    heat = (float(rng.choice(np.asarray(config.noise.temperatures))),)
    noise = replace(config.noise, temperatures=heat, fewer_devices=0.0)
    styles = draw_styles(problem, turns, noise, rng)
    hints = np.tile(best.chosen, (plans, 1))
    given = np.where(is_open, np.int32(-1), hints)
    drawn = subject.decoder.draw(
        scorer, styles, int(rng.integers(1 << 62)), given, hints, plans, is_open
    )
    levels = levels_for(chances, subject, np.ones(plans, bool), np.ones(plans, bool), rng)
    levels = redraw_levels(levels, best.levels, subject, np.tile(is_open, (plans, 1)))
    after, energies = take_step(subject, drawn.chosen, levels)
    order = np.argsort(energies, kind="stable")
    better = int((energies < best.progress.energy).sum())
    lesson = None
    if better and energies.std() >= _LEAST_SPREAD:
        # Of plans that are all worse than the one at hand the best are those that change least:
        # whoever learned from them would learn to leave everything as it is.
        winners = min(better, plans // 2)
        worth = np.zeros(plans)
        worth[order] = _worth_by_rank(winners, plans - winners)
        worth *= float(np.tanh(energies.std() / _TELLING_SPREAD))
        lesson = _lesson(subject, drawn, styles, levels, worth, is_open)
    at = int(order[0])
    if after[at].energy < best.progress.energy:
        best = _Kept(after[at], drawn.chosen[at], levels.of(at))
    return lesson, best


def _compare_alike(
    energies: Float64[np.ndarray, " plans"],
    temperatures: Float64[np.ndarray, " plans"],
    is_drawn: Bool[np.ndarray, " plans"],
    learned: int,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " picked"], Float64[np.ndarray, " picked"]]:
    """Plans to learn from and what each counts: the best of those drawn at one temperature, and
    as many of their others.

    Plans drawn with less noise are better on average. Whoever set them against those with more
    would learn to be sure of itself, and the best of many plans would be worse for it. Of greedy
    plans nothing is learned: at their temperature chances say too little.
    """
    groups = _groups(temperatures, is_drawn)
    picked, worth = [], []
    for group in groups:
        half = max(1, min(learned // (2 * len(groups)), len(group) // 2))
        order = group[np.argsort(energies[group], kind="stable")]
        picked += [order[:half], rng.choice(order[half:], half, replace=False)]
        worth.append(_worth_by_rank(half, half) / len(groups))
    return np.concatenate(picked), np.concatenate(worth)


def _groups(
    temperatures: Float64[np.ndarray, " plans"], is_drawn: Bool[np.ndarray, " plans"]
) -> list[Int64[np.ndarray, " group"]]:
    """Drawn plans by their temperature, where there are two to compare."""
    groups = [
        np.flatnonzero(is_drawn & (temperatures == each))
        for each in np.unique(temperatures[is_drawn])
    ]
    return [group for group in groups if len(group) > 1]


def _worth_by_rank(winners: int, losers: int) -> Float64[np.ndarray, " plans"]:
    """Of plans in the order of their energies: 1 among the winners, minus 1 among the rest."""
    ranks = np.linspace(1.0, 0.2, winners)
    return np.concatenate([ranks / ranks.sum(), np.full(losers, -1.0 / losers)])


def _lesson(
    subject: Subject,
    drawn: Drawn,
    styles: Styles,
    levels: Levels,
    worth: Float64[np.ndarray, " plans"],
    is_open: Bool[np.ndarray, " choices"],
) -> Lesson:
    """What was seen and chosen where choices were open."""
    choices = np.flatnonzero(is_open)
    ops = np.flatnonzero(is_open[subject.decoder.choices.choice_of] & subject.decides_all)
    return Lesson(
        choices,
        drawn.columns[:, choices],
        drawn.considered[:, choices],
        drawn.chosen[:, choices],
        styles.style,
        styles.temperature,
        ops,
        Levels(*(values[:, ops] for values in levels)),
        worth,
    )
