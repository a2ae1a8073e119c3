"""Simulated annealing that asks a network which of some drawn moves to simulate.

Before each simulation some moves are drawn at random; features of each are read off the trace of
the plan at hand, a small network scores them, and one of the likely ones is tried. After a move is
accepted the trace is read anew. Everything is one compiled loop.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from placement.annealing.anneal import Annealer, Chain, energy_of, neighbour_device, random_share
from placement.annealing.hierarchy import Hierarchy
from placement.annealing.move_features import (
    MOVE_COLUMNS,
    Reading,
    make_reading,
    move_features,
    read_trace,
    tried_features,
)
from placement.annealing.move_scorer import MoveScorer, score_move
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.kernel import NO_RECORDING, Recording, State, make_recording
from simulator.event_engine.program import ProgramArrays


@dataclass(frozen=True)
class Guidance:
    """How scores decide which move is tried."""

    candidates: int = 16
    """Moves drawn for each that is simulated."""
    sharpness: float = 2.0
    """Scores are multiplied by it before the draw: chances are the softmax."""
    random_share: float = 0.1
    """How often the first drawn move is tried, whatever its score."""
    read_after: int = 1
    """Accepted moves after which the trace is read anew."""


class _Groups(NamedTuple):
    level_offsets: Int64[np.ndarray, " level_bounds"]
    member_offsets: Int64[np.ndarray, " groups+1"]
    members: Int32[np.ndarray, " members"]
    allowed: Bool[np.ndarray, "groups devices"]
    labels: Int32[np.ndarray, "levels ops"]
    depths: Float64[np.ndarray, " levels"]


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

_EVALUATIONS, _ACCEPTED, _VERSION, _UNREAD, _KEPT = range(5)


@dataclass(frozen=True, eq=False)
class GuidedAnnealer:
    """An `Annealer` whose moves a network picks; keeps buffers and earlier tries between calls.

    For one chain at a time.
    """

    annealer: Annealer
    scorer: MoveScorer
    guidance: Guidance = Guidance()
    _groups: _Groups = field(init=False)
    _tried: _Tried = field(init=False)
    _reading: Reading = field(init=False)
    _recording: Recording = field(init=False)
    _counts: Int64[np.ndarray, " counts"] = field(init=False)

    def __post_init__(self) -> None:
        problem, hierarchy = self.annealer.problem, self.annealer.hierarchy
        arrays = problem.simulator.program.arrays
        groups, devices = hierarchy.allowed.shape
        tried = _Tried(
            np.full((groups, devices), -1, np.int64),
            np.zeros((groups, devices), np.float32),
            np.full(groups, -1, np.int64),
        )
        ops = problem.graph.op_count
        recording = make_recording(ops, len(arrays.tensor_bytes), len(arrays.consumers))
        object.__setattr__(self, "_groups", _as_groups(hierarchy))
        object.__setattr__(self, "_tried", tried)
        object.__setattr__(self, "_reading", make_reading(arrays, problem.cluster.memory_bytes))
        object.__setattr__(self, "_recording", recording)
        object.__setattr__(self, "_counts", np.array([0, 0, 0, 1, 0], np.int64))

    @property
    def problem(self) -> Problem:
        return self.annealer.problem

    def reprioritised(self, chain: Chain) -> Chain:
        """As `Annealer.reprioritised`; every move may be tried anew under the new order."""
        found = self.annealer.reprioritised(chain)
        if found.ranks is not chain.ranks:
            self._counts[_VERSION] += 1
        return found

    def take(self, scorer: MoveScorer) -> None:
        """Go on with other weights of the same shapes."""
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
        devices, best = chain.devices.copy(), chain.best_devices.copy()
        energies = np.array([chain.energy, chain.best_energy])
        random_state = np.array([chain.random_state], np.uint64)
        counts = self._counts
        counts[[_EVALUATIONS, _ACCEPTED, _KEPT]] = 0
        counts[_UNREAD] = self.guidance.read_after
        guidance = self.guidance
        _advance(
            self.problem.simulator.program.arrays,
            self.annealer.state,
            self._recording,
            self._reading,
            self._groups,
            self._tried,
            self.scorer,
            harvest,
            devices,
            chain.ranks.copy(),
            moves,
            temperature,
            heat,
            guidance.candidates,
            guidance.sharpness,
            guidance.random_share,
            guidance.read_after,
            self.annealer.neighbour_share,
            best,
            energies,
            random_state,
            counts,
            np.zeros(self.problem.cluster.device_count, np.int64),
            np.empty(len(devices), np.int32),
            np.zeros(len(MOVE_COLUMNS), np.float32),
            np.zeros(len(MOVE_COLUMNS), np.float32),
            NO_RECORDING,
        )
        tried, accepted = int(counts[_EVALUATIONS]), int(counts[_ACCEPTED])
        return chain.went_on(devices, best, energies, random_state, tried, accepted)


def _as_groups(hierarchy: Hierarchy) -> _Groups:
    return _Groups(
        hierarchy.level_offsets,
        hierarchy.member_offsets,
        hierarchy.members,
        hierarchy.allowed,
        hierarchy.labels,
        hierarchy.depths,
    )


@compiled
def _advance(
    p: ProgramArrays,
    s: State,
    r: Recording,
    reading: Reading,
    groups: _Groups,
    tried: _Tried,
    scorer: MoveScorer,
    harvest: Harvest,
    devices: np.ndarray,
    ranks: np.ndarray,
    moves: int,
    temperature: float,
    heat: float,
    candidates: int,
    sharpness: float,
    random_part: float,
    read_after: int,
    neighbour_part: float,
    best: np.ndarray,
    energies: np.ndarray,
    random_state: np.ndarray,
    counts: np.ndarray,
    peak: np.ndarray,
    undo: np.ndarray,
    row: Float32[np.ndarray, " columns"],
    chosen: Float32[np.ndarray, " columns"],
    no_recording: Recording,
) -> None:
    device_count = peak.size
    levels = groups.level_offsets.size - 1
    for _ in range(moves):
        if counts[_UNREAD] >= read_after:
            read_trace(p, s, r, devices, ranks, reading)
            counts[_UNREAD] = 0
        version = counts[_VERSION]
        wanted = 1 if random_share(random_state) < random_part else candidates
        chosen_group, chosen_device, highest = -1, -1, -np.inf
        for _ in range(wanted):
            level = int(random_share(random_state) * levels)
            width = groups.level_offsets[level + 1] - groups.level_offsets[level]
            group = groups.level_offsets[level] + int(random_share(random_state) * width)
            first, last = groups.member_offsets[group], groups.member_offsets[group + 1]
            if random_share(random_state) < neighbour_part:
                op = groups.members[first + int(random_share(random_state) * (last - first))]
                device = neighbour_device(p, devices, op, random_state)
            else:
                device = int(random_share(random_state) * device_count)
            if not groups.allowed[group, device] or tried.when[group, device] == version:
                continue
            if not move_features(
                p, r, reading, devices, groups.members, first, last, groups.labels, level,
                groups.depths[level], group, device, row,
            ):  # fmt: skip
                continue
            ago, group_ago = -1.0, -1.0
            if tried.when[group, device] >= 0:
                ago = version - tried.when[group, device]
            if tried.group_when[group] >= 0:
                group_ago = version - tried.group_when[group]
            tried_features(heat, ago, tried.change[group, device], group_ago, row)
            score = sharpness * score_move(scorer, row)
            score -= np.log(-np.log(max(random_share(random_state), 1e-300)))
            if score > highest:
                highest, chosen_group, chosen_device = score, group, device
                for column in range(row.size):
                    chosen[column] = row[column]
        if chosen_group < 0:
            continue
        first, last = groups.member_offsets[chosen_group], groups.member_offsets[chosen_group + 1]
        for index in range(first, last):
            op = groups.members[index]
            undo[index - first] = devices[op]
            devices[op] = chosen_device
        counts[_EVALUATIONS] += 1
        energy = energy_of(p, s, devices, ranks, reading.capacity, peak, no_recording)
        change = energy - energies[0]
        if counts[_KEPT] < harvest.changes.size:
            for column in range(row.size):
                harvest.features[counts[_KEPT], column] = chosen[column]
            harvest.changes[counts[_KEPT]] = change
            counts[_KEPT] += 1
        tried.when[chosen_group, chosen_device] = version
        tried.group_when[chosen_group] = version
        tried.change[chosen_group, chosen_device] = change
        if change <= -temperature * np.log(1.0 - random_share(random_state)):
            counts[_ACCEPTED] += 1
            if abs(change) > _NEUTRAL:
                counts[_VERSION] += 1
                counts[_UNREAD] += 1
            energies[0] = energy
            if energy < energies[1]:
                energies[1] = energy
                for op in range(devices.size):
                    best[op] = devices[op]
        else:
            for index in range(first, last):
                devices[groups.members[index]] = undo[index - first]
