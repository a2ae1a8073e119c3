"""Whole plans from one look at a graph; each batch of them is a step of its environment.

The first plans are drawn from nothing. All others redraw regions of the best plan so far, with
all of it in view: GO's further passes (Zhou et al., arXiv 2010.12438, section 3.3), for which the
network itself need not look again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int32

from agent.decoding.config import DrawConfig
from agent.decoding.levels import LevelChances, Levels, draw_levels, neutral_levels
from agent.decoding.subject import Subject, choice_slices, collate_choices, op_slices
from envs.rewards import get_reward
from envs.rules import Progress, advance, begin
from placement.decoding.decoder import DecisionScorer
from placement.decoding.drawing import untaught_scorer
from placement.decoding.style_weights import STYLE_WEIGHTS
from placement.decoding.styles import Noise, draw_styles
from placement.placer import Candidate

if TYPE_CHECKING:
    from agent.decoding.network import OneShotPolicy

#: Rewards of plans; their order alone matters, which is that of energies.
REWARD = get_reward("log-speedup")
#: So often a greedy plan is made anew with less memory, until it fits.
GREEDY_TRIES = 5
#: Each time the estimate may fill less by this factor at least.
_LEAST_STEP = 1.1
#: The estimate may fill no less than this of a device.
_LEAST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Look:
    """What one look at a graph said: all that plans are drawn from.

    Beside the styles that hear the network there are the tuned ones, which do not: on a graph
    unlike any that was learned from, what was learned may be worse than nothing, and the best plan
    of both is not.
    """

    scorer: DecisionScorer
    style_chances: Float64[np.ndarray, " styles"]
    """How likely each style gives the best plan."""
    levels: LevelChances | None = None
    """Of priorities and kernels; None leaves both to the heuristics."""

    @property
    def by_chance(self) -> Int32[np.ndarray, " styles"]:
        """Styles, the likeliest first."""
        return np.argsort(-self.style_chances, kind="stable").astype(np.int32)


def look_at(policy: "OneShotPolicy", subject: Subject, device: str = "cpu") -> Look:
    """One pass of the network."""
    import torch

    batch = collate_choices([subject], policy.config.segment_ops).to(device)
    with torch.no_grad():
        said = policy(batch)
    count = subject.instance.problem.cluster.device_count
    taught = said.scorer(0, choice_slices([subject])[0], count)
    tuned = np.array(STYLE_WEIGHTS, np.float32)
    scorer = taught._replace(
        style_weights=np.concatenate([taught.style_weights, tuned]),
        heard=np.concatenate([taught.heard, np.zeros(len(tuned), np.float32)]),
    )
    chances = said.style_chances[0].exp().double().cpu().numpy()
    chances = np.concatenate([chances, np.full(len(tuned), 1 / len(tuned))]) / 2
    return Look(scorer, chances, said.level_chances(op_slices([subject])[0]))


def look_untaught(subject: Subject) -> Look:
    """The control: the same decoder with tuned weights and nothing learned."""
    count = len(STYLE_WEIGHTS)
    return Look(untaught_scorer(subject.decoder), np.full(count, 1 / count))


@dataclass(frozen=True, eq=False)
class Found:
    """The plans that were drawn."""

    best: Progress
    chosen: Int32[np.ndarray, " choices"]
    """Of the best plan."""
    levels: Levels
    """The same."""
    energies: Float64[np.ndarray, " plans"]
    """Of all plans, in the order in which they were drawn."""


def candidate_of(progress: Progress, origin: str) -> Candidate:
    """The plan of an episode, as placers return it."""
    assert progress.plan is not None, "no plan has run"
    assert progress.evaluation is not None, "no plan has run"
    return Candidate(progress.plan, progress.evaluation, origin)


def take_step(
    subject: Subject, chosen: Int32[np.ndarray, "plans choices"], levels: Levels
) -> tuple[list[Progress], Float64[np.ndarray, " plans"]]:
    """A step of the environment with each plan; where the episodes stand, and their energies.

    Args:
        levels: of priorities and kernels; unused where devices alone are decided.
    """
    rules = subject.rules
    start = begin(subject.prepared, rules)
    actions = [subject.decoder.devices(row) for row in chosen]
    if subject.decides_all:
        actions = [
            np.stack([devices, *levels.columns(plan)], axis=1)
            for plan, devices in enumerate(actions)
        ]
    after, scores = advance(subject.prepared, rules, [start] * len(actions), actions, REWARD)
    return after, scores.energies


def levels_for(
    chances: LevelChances | None,
    subject: Subject,
    drawn: Bool[np.ndarray, " plans"],
    heard: Bool[np.ndarray, " plans"],
    rng: np.random.Generator,
) -> Levels:
    """Levels of some plans; those of the heuristics where nothing is said or wanted."""
    if chances is None or not subject.decides_all:
        return neutral_levels(len(drawn), subject.instance.problem.graph.op_count)
    return draw_levels(chances, drawn, heard, rng)


def draw_plans(
    look: Look,
    subject: Subject,
    config: DrawConfig,
    seed: int,
    go_on: Callable[[], bool] = lambda: True,
) -> Found:
    """Draw plans and keep the best.

    Args:
        look: what the network said of the subject.
        subject: the graph and its decoder.
        config: how many plans, and how they differ.
        seed: of all draws.
        go_on: asked before each step after the first; plans that were drawn count.
    """
    rng = np.random.default_rng([seed, 29])
    first = min(config.first, config.plans)
    styles = spread_styles(look, first)
    greedy = min(len(look.style_chances), first)
    problem = subject.instance.problem
    drawn = subject.decoder.draw(
        look.scorer,
        draw_styles(problem, styles, config.noise, rng, greedy),
        int(rng.integers(1 << 62)),
    ).chosen
    # Each style's greedy plan has the likeliest levels, all others are drawn.
    levels = levels_for(
        look.levels, subject, np.arange(first) >= greedy, look.scorer.heard[styles] > 0, rng
    )
    after, energies = take_step(subject, drawn, levels)
    at = int(energies.argmin())
    found = Found(after[at], drawn[at], levels.of(at), energies)
    style, done = int(styles[at]), first
    noise = replace(config.noise, fewer_devices=0.0)
    while done < config.plans and go_on():
        count = min(config.each, config.plans - done)
        own = rng.random(count) < 0.5
        styles = np.where(own, style, rng.integers(len(look.style_chances), size=count))
        hints = np.tile(found.chosen, (count, 1))
        open_ = np.stack([draw_region(subject, config.redrawn, rng) for _ in range(count)])
        if (too_full := _too_full(subject, found.best)) > 1.0:
            # Regions alone cannot make room; half of the plans begin anew, with less memory. What
            # was learned may put speed first: every other time nothing learned speaks.
            shares = tuple(max(share / too_full, _LEAST_SHARE) for share in noise.memory_shares)
            noise = replace(noise, memory_shares=shares)
            open_[::2] = True
            if (done // config.each) % 2:
                styles = rng.choice(np.flatnonzero(look.scorer.heard == 0), count)
        drawn = subject.decoder.draw(
            look.scorer,
            draw_styles(problem, styles.astype(np.int32), noise, rng),
            int(rng.integers(1 << 62)),
            np.where(open_, np.int32(-1), hints),
            hints,
        ).chosen
        heard = look.scorer.heard[styles] > 0
        levels = levels_for(look.levels, subject, np.ones(count, bool), heard, rng)
        levels = redraw_levels(levels, found.levels, subject, open_)
        after, energies = take_step(subject, drawn, levels)
        at = int(energies.argmin())
        if after[at].energy < found.best.energy:
            found = replace(found, best=after[at], chosen=drawn[at], levels=levels.of(at))
            style = int(styles[at])
        found = replace(found, energies=np.concatenate([found.energies, energies]))
        done += count
    return found


def _too_full(subject: Subject, progress: Progress) -> float:
    """How many times too small the fullest device of a plan is; 1 where it fits."""
    evaluation = progress.evaluation
    if evaluation is None or evaluation.feasible:
        return 1.0
    capacity = np.maximum(subject.instance.problem.cluster.memory_bytes, 1)
    return max(float((np.array(evaluation.peak_bytes) / capacity).max()), 1.0)


def greedy_plan(look: Look, subject: Subject) -> Progress:
    """One plan: the likeliest style, the best device each time.

    Where it does not fit in memory, the decoder's estimate may fill less of it, as list schedulers
    are told to; a few times, by as much as it was too full.
    """
    problem = subject.instance.problem
    style = look.by_chance[:1]
    rng = np.random.default_rng(0)
    heard = look.scorer.heard[style] > 0
    levels = levels_for(look.levels, subject, np.zeros(1, bool), heard, rng)
    best: Progress | None = None
    share = 1.0
    for _ in range(GREEDY_TRIES):
        styles = draw_styles(problem, style, Noise(memory_shares=(share,)), rng, 1)
        chosen = subject.decoder.draw(look.scorer, styles, 0).chosen
        after, _ = take_step(subject, chosen, levels)
        if best is None or after[0].energy < best.energy:
            best = after[0]
        if (too_full := _too_full(subject, after[0])) <= 1.0:
            break
        share = max(share / max(too_full, _LEAST_STEP), _LEAST_SHARE)
    assert best is not None, "no plan was tried"
    return best


def spread_styles(look: Look, plans: int) -> Int32[np.ndarray, " plans"]:
    """Each style once, the likeliest first, then as often as their chances say."""
    order = look.by_chance[:plans]
    left = plans - len(order)
    shares = look.style_chances / look.style_chances.sum()
    ends = np.round(np.cumsum(shares) * left).astype(int)
    more = np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))
    return np.concatenate([order, more]).astype(np.int32)


def redraw_levels(
    drawn: Levels,
    kept: Levels,
    subject: Subject,
    is_open: Bool[np.ndarray, "plans choices"],
) -> Levels:
    """Those drawn for the ops of open choices, those of a plan that is kept for all others."""
    open_ops = is_open[:, subject.decoder.choices.choice_of]
    return Levels(*(np.where(open_ops, new, old) for new, old in zip(drawn, kept, strict=True)))


def draw_region(
    subject: Subject, shares: Sequence[float], rng: np.random.Generator
) -> Bool[np.ndarray, " choices"]:
    """Choices to redraw: regions of one level, until there are about as many as wanted.

    Args:
        shares: of all choices; one of them is wanted.
    """
    levels = subject.regions
    labels = levels[int(rng.integers(len(levels)))]
    wanted = rng.choice(np.asarray(shares)) * len(labels)
    order = rng.permutation(int(labels.max()) + 1)
    sizes = np.bincount(labels)[order]
    count = int(np.searchsorted(np.cumsum(sizes), wanted)) + 1
    return np.isin(labels, order[:count])
