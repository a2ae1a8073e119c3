"""Simulated annealing that asks a network which of some drawn moves to simulate.

Before each simulation some moves are drawn at random; features of each are read off the trace of
the plan at hand, a small network scores them, and one of the likely ones is tried. After a move is
accepted the trace is read anew. Everything is one compiled loop.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from placement.annealing.anneal import Annealer, Chain, Search
from placement.annealing.feature_memo import (
    FeatureMemo,
    forget_all,
    forget_around,
    make_memo,
    recall_features,
)
from placement.annealing.move_features import (
    MOVE_COLUMNS,
    Evidence,
    make_reading,
    read_trace,
    tried_features,
)
from placement.annealing.move_scorer import MoveScorer, check_scorer, score_move
from placement.annealing.moves import draw_move, make_move, take_back
from placement.annealing.walk import EVALUATED, PLAN, accept, draw_limit, draw_uniform, energy_of
from placement.problem import Problem
from simulator.compiled import compiled, inlined
from simulator.event_engine.state import make_recording
from simulator.kernel_checks import check_indices, check_record


@dataclass(frozen=True)
class Guidance:
    """How scores decide which move is tried."""

    candidates: int
    """Moves drawn for each that is simulated."""
    sharpness: float
    """Scores are multiplied by it before the draw: chances are the softmax."""
    random_share: float
    """How often the first drawn move is tried, whatever its score."""
    read_after: int
    """Accepted moves after which the trace is read anew."""


class _Tried(NamedTuple):
    """What came of the last try of each move: when, counted in accepted moves, and the change."""

    when: Int64[np.ndarray, "groups devices"]
    change: Float32[np.ndarray, "groups devices"]
    group_when: Int64[np.ndarray, " groups"]


class Harvest(NamedTuple):
    """Moves that were simulated: their features, and the change of energy."""

    features: Float32[np.ndarray, "tries columns"]
    changes: Float32[np.ndarray, " tries"]


#: Keeps nothing.
NO_HARVEST = Harvest(np.zeros((0, len(MOVE_COLUMNS)), np.float32), np.zeros(0, np.float32))

#: A change of energy below this is none: the trace stays as it was for most.
_NEUTRAL = 1e-9

#: Plans accepted so far that differ in energy; those since the trace was read; moves kept.
_VERSION, _UNREAD, _KEPT = range(3)


class _Guide(NamedTuple):
    """What picks moves, beside what all annealing needs."""

    evidence: Evidence
    memo: FeatureMemo
    tried: _Tried
    scorer: MoveScorer
    row: Float32[np.ndarray, " columns"]
    """Features of the move at hand."""
    chosen: Float32[np.ndarray, " columns"]
    """Features of the likeliest so far."""
    counts: Int64[np.ndarray, " 3"]
    candidates: int
    sharpness: float
    random_share: float
    read_after: int


@dataclass(frozen=True, eq=False)
class GuidedAnnealer:
    """An `Annealer` whose moves a network picks; keeps buffers and earlier tries between calls.

    For one chain at a time.
    """

    annealer: Annealer
    scorer: MoveScorer
    guidance: Guidance
    _guide: _Guide = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_guide", _make_guide(self.annealer, self.scorer, self.guidance))

    @property
    def problem(self) -> Problem:
        return self.annealer.problem

    def reprioritise(self, chain: Chain) -> Chain:
        """As `Annealer.reprioritise`; every move may be tried anew under the new order."""
        reordered = self.annealer.reprioritise(chain)
        if reordered.ranks is not chain.ranks:
            self._guide.counts[_VERSION] += 1
        return reordered

    def take(self, scorer: MoveScorer) -> None:
        """Go on with other weights of the same shapes."""
        check_scorer(scorer, like=self.scorer)
        for own, other in zip(self.scorer, scorer, strict=True):
            own[...] = other

    def advance(
        self,
        chain: Chain,
        moves: int,
        temperature: float,
        heat: float,
        harvest: Harvest = NO_HARVEST,
    ) -> Chain:
        """Try `moves` moves; acceptance is that of `Annealer.advance`.

        Args:
            heat: temperature as a share of what it began with, which the network sees.
            harvest: filled with the first moves tried, as many as there is room for: of the
                chain's evaluations, those that this call added.
        """
        check_record(harvest, columns=len(MOVE_COLUMNS))
        guide = self._guide
        guide.counts[_KEPT] = 0
        guide.counts[_UNREAD] = guide.read_after
        search = self.annealer.search(chain)
        _advance(search, guide, harvest, moves, float(temperature), float(heat))
        return chain.went_on(search.walk)


def _make_guide(annealer: Annealer, scorer: MoveScorer, guidance: Guidance) -> _Guide:
    """Room for all that guided moves remember; checks what came from outside."""
    problem, hierarchy = annealer.problem, annealer.hierarchy
    arrays = problem.simulator.program.arrays
    ops, tensors, edges = problem.graph.op_count, len(arrays.tensor_bytes), len(arrays.consumers)
    evidence = Evidence(
        program=arrays,
        recording=make_recording(ops, tensors, edges),
        reading=make_reading(arrays, problem.cluster.memory_bytes),
        groups=annealer.groups,
        labels=hierarchy.labels,
        depths=hierarchy.depths,
    )
    check_record(evidence, ops=ops, levels=hierarchy.level_count)
    check_indices("labels", evidence.labels, len(hierarchy.allowed))
    check_scorer(scorer)
    groups, devices = hierarchy.allowed.shape
    return _Guide(
        evidence=evidence,
        memo=make_memo(hierarchy),
        tried=_Tried(
            np.full((groups, devices), -1, np.int64),
            np.zeros((groups, devices), np.float32),
            np.full(groups, -1, np.int64),
        ),
        scorer=scorer,
        row=np.zeros(len(MOVE_COLUMNS), np.float32),
        chosen=np.zeros(len(MOVE_COLUMNS), np.float32),
        counts=np.array([0, 1, 0], np.int64),
        candidates=int(guidance.candidates),
        sharpness=float(guidance.sharpness),
        random_share=float(guidance.random_share),
        read_after=int(guidance.read_after),
    )


@compiled
def _advance(
    search: Search, guide: _Guide, harvest: Harvest, moves: int, temperature: float, heat: float
) -> None:
    engine, groups, walk = search.engine, search.groups, search.walk
    evidence, tried, counts = guide.evidence, guide.tried, guide.counts
    for _ in range(moves):
        if counts[_UNREAD] >= guide.read_after:
            read_trace(
                evidence.program,
                engine.state,
                evidence.recording,
                walk.devices,
                walk.ranks,
                evidence.reading,
            )
            forget_all(guide.memo)
            counts[_UNREAD] = 0
        group, device = _pick_move(search, guide, heat)
        if group < 0:
            continue
        make_move(groups, walk, group, device)
        walk.counts[EVALUATED] += 1
        limit = draw_limit(walk, temperature)
        # Lessons are about what a move does; elsewhere it is enough to know that it is refused.
        whole = counts[_KEPT] < harvest.changes.size
        energy = energy_of(engine, walk.devices, walk.ranks, np.inf if whole else limit)
        change = energy - walk.energies[PLAN]
        if counts[_KEPT] < harvest.changes.size:
            for column in range(guide.chosen.size):
                harvest.features[counts[_KEPT], column] = guide.chosen[column]
            harvest.changes[counts[_KEPT]] = change
            counts[_KEPT] += 1
        tried.when[group, device] = counts[_VERSION]
        tried.group_when[group] = counts[_VERSION]
        tried.change[group, device] = change
        if energy <= limit:
            accept(walk, energy)
            forget_around(guide.memo, evidence, walk, group)
            if abs(change) > _NEUTRAL:
                counts[_VERSION] += 1
                counts[_UNREAD] += 1
        else:
            take_back(groups, walk, group)


@inlined
def _pick_move(search: Search, guide: _Guide, heat: float) -> tuple[int, int]:
    """Group and device of a likely one of some drawn moves, or -1 and -1 where none is worth a try.

    Its features are in `guide.chosen`. Moves that were tried on this plan are not drawn again.
    """
    walk, groups, tried, row = search.walk, search.groups, guide.tried, guide.row
    version = guide.counts[_VERSION]
    wanted = 1 if draw_uniform(walk.random_state) < guide.random_share else guide.candidates
    chosen_group, chosen_device, highest = -1, -1, -np.inf
    for _ in range(wanted):
        level, group, device = draw_move(
            search.engine.program, groups, walk, search.neighbour_share
        )
        if not groups.allowed[group, device] or tried.when[group, device] == version:
            continue
        if not recall_features(guide.memo, guide.evidence, walk, level, group, device, row):
            continue
        ago, group_ago = -1.0, -1.0
        if tried.when[group, device] >= 0:
            ago = version - tried.when[group, device]
        if tried.group_when[group] >= 0:
            group_ago = version - tried.group_when[group]
        tried_features(heat, ago, tried.change[group, device], group_ago, row)
        score = guide.sharpness * score_move(guide.scorer, row)
        score -= np.log(-np.log(max(draw_uniform(walk.random_state), 1e-300)))
        if score > highest:
            highest, chosen_group, chosen_device = score, group, device
            for column in range(row.size):
                guide.chosen[column] = row[column]
    return chosen_group, chosen_device
