"""Annealing of devices and kernels together: moves of groups, and ops fused or taken out.

A move is either that of `placement.annealing`, a group to another device, or it changes whether an
op is fused into the kernel that reads it. Kernels that come to lie on several devices fall apart at
the border, and grow together where a move brings them onto one device.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from placement.annealing.fusing.fused_problem import FusedProblem, fuse_problem
from placement.annealing.fusing.kernel_program import (
    FUSIBLE_CLASSES,
    Kernels,
    Sources,
    find_kernels,
    make_kernels,
    make_sources,
    rank_kernels,
    rebuild,
    room_for_kernels,
)
from placement.annealing.hierarchy import Hierarchy
from placement.annealing.moves import MoveGroups, draw_move, make_move, move_groups, take_back
from placement.annealing.walk import (
    BEST,
    EVALUATED,
    PLAN,
    Engine,
    Walk,
    accept,
    begin_walk,
    draw_limit,
    draw_uniform,
    energy_of,
    make_engine,
)
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.compiled import compiled, inlined
from simulator.event_engine.program import ProgramArrays
from simulator.fusion import greedy_groups
from simulator.kernel_checks import check_indices, check_record
from simulator.plan import Plan, priority_ranks


class JointSearch(NamedTuple):
    """What the compiled moves need."""

    engine: Engine
    """Of the fused program, which is rebuilt in place."""
    unfused: ProgramArrays
    """Tells which devices are near."""
    groups: MoveGroups
    walk: Walk
    sources: Sources
    kernels: Kernels
    best_wishes: UInt8[np.ndarray, " ops"]
    fusible: Int32[np.ndarray, " fusible"]
    """Ops that can be fused into what reads them."""
    neighbour_share: float
    fusion_share: float


@dataclass(frozen=True, eq=False)
class JointChain:
    """The state of a chain; `JointAnnealer.advance` gives the next one.

    A wish is 1 for an op that is to be fused into what reads it.
    """

    devices: Int32[np.ndarray, " ops"]
    wishes: UInt8[np.ndarray, " ops"]
    ranks: Int32[np.ndarray, " ops"]
    energy: float
    best_devices: Int32[np.ndarray, " ops"]
    best_wishes: UInt8[np.ndarray, " ops"]
    best_ranks: Int32[np.ndarray, " ops"]
    best_energy: float
    random_state: int
    evaluations: int = 0
    accepted: int = 0


@dataclass(frozen=True, eq=False)
class JointAnnealer:
    """Anneals plans of one problem; keeps the kernels' buffers between calls."""

    problem: Problem
    hierarchy: Hierarchy
    neighbour_share: float = 0.5
    """How often a group moves to where an op next to it is, rather than anywhere."""
    fusion_share: float = 0.5
    """How often a move changes kernels rather than devices."""
    _engine: Engine = field(init=False)
    _unfused: ProgramArrays = field(init=False)
    _groups: MoveGroups = field(init=False)
    _sources: Sources = field(init=False)
    _fusible: Int32[np.ndarray, " fusible"] = field(init=False)

    def __post_init__(self) -> None:
        program = self.problem.simulator.program.arrays
        engine = make_engine(program, self.problem.cluster.memory_bytes)
        sources = make_sources(self.problem)
        readers = np.diff(sources.consumer_offsets[sources.output_offsets])
        fusible = np.flatnonzero(np.isin(sources.classes, FUSIBLE_CLASSES) & (readers > 0))
        object.__setattr__(self, "_engine", engine._replace(program=room_for_kernels(program)))
        object.__setattr__(self, "_unfused", program)
        object.__setattr__(self, "_groups", move_groups(self.hierarchy, *program.seconds.shape))
        object.__setattr__(self, "_sources", sources)
        object.__setattr__(self, "_fusible", fusible.astype(np.int32))

    def start(self, plan: Plan, wishes: np.ndarray, seed: int) -> JointChain:
        """A chain at a plan's devices and order, with kernels as wished."""
        random_state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) | 1
        wishes = wishes.astype(np.uint8)
        devices, ranks = plan.devices.copy(), plan.ranks.copy()
        chain = JointChain(
            devices, wishes, ranks, np.inf, devices, wishes, ranks, np.inf, random_state
        )
        search = self._search(chain)
        _evaluate_once(search)
        energy = float(search.walk.energies[PLAN])
        return replace(chain, energy=energy, best_energy=energy)

    def fusion(self, devices: np.ndarray, wishes: np.ndarray) -> Int32[np.ndarray, " ops"]:
        """The kernels that wishes come to on some devices."""
        priorities = np.where(wishes != 0, np.arange(1.0, len(wishes) + 1), 0.0)
        return greedy_groups(self.problem.graph, priorities, devices)

    def best_plan(self, chain: JointChain) -> Plan:
        """The best plan that was met."""
        fusion = self.fusion(chain.best_devices, chain.best_wishes)
        return Plan.of(chain.best_devices, -chain.best_ranks.astype(np.float64), fusion)

    def advance(self, chain: JointChain, moves: int, temperature: float) -> JointChain:
        """Propose `moves` moves; acceptance is that of `placement.annealing.anneal`."""
        search = self._search(chain)
        _advance(search, moves, float(temperature))
        plan, best = search.walk.energies.tolist()
        evaluations, accepted = search.walk.counts.tolist()
        return replace(
            chain,
            devices=search.walk.devices,
            wishes=search.kernels.wishes,
            energy=plan,
            best_devices=search.walk.best_devices,
            best_wishes=search.best_wishes,
            best_ranks=chain.ranks if best < chain.best_energy else chain.best_ranks,
            best_energy=best,
            random_state=int(search.walk.random_state[0]),
            evaluations=chain.evaluations + evaluations,
            accepted=chain.accepted + accepted,
        )

    def reprioritise(self, chain: JointChain) -> JointChain:
        """The chain under critical-path priorities of its kernels, if that is no worse."""
        fusion = self.fusion(chain.devices, chain.wishes)
        fused = fuse_problem(self.problem, Plan.of(chain.devices, None, fusion), fusion)
        at = chain.devices[_roots(fused)]
        urgency = upward_ranks(fused.kernels, at)[fused.kernel_of]
        ranks = priority_ranks(urgency)
        plan = Plan.of(chain.devices, -ranks.astype(np.float64))
        other = self.start(plan, chain.wishes, 0)
        if other.energy > chain.energy:
            return chain
        chain = replace(chain, ranks=ranks, energy=other.energy)
        if other.energy < chain.best_energy:
            chain = replace(
                chain,
                best_energy=other.energy,
                best_devices=chain.devices,
                best_wishes=chain.wishes,
                best_ranks=ranks,
            )
        return chain

    def _search(self, chain: JointChain) -> JointSearch:
        ops, devices = self._engine.program.seconds.shape
        walk = begin_walk(
            chain.devices,
            chain.ranks,
            chain.best_devices,
            (chain.energy, chain.best_energy),
            chain.random_state,
            (ops, devices),
        )
        search = JointSearch(
            self._engine,
            self._unfused,
            self._groups,
            walk,
            self._sources,
            make_kernels(chain.wishes),
            chain.best_wishes.copy(),
            self._fusible,
            float(self.neighbour_share),
            float(self.fusion_share),
        )
        check_record(search, ops=ops)
        check_indices("fusible", search.fusible, ops)
        return search


@compiled
def _evaluate_once(search: JointSearch) -> None:
    find_kernels(search.sources, search.kernels, search.walk.devices)
    search.walk.energies[PLAN] = _energy(search, np.inf)


@inlined
def _energy(search: JointSearch, limit: float) -> float:
    """Simulate the kernels that were found last; above the limit a lower bound will do."""
    engine, k, walk = search.engine, search.kernels, search.walk
    other = False
    for op in range(k.roots.size):
        other |= k.roots[op] != k.built[op]
    if other:
        rebuild(search.sources, k, engine.program)
        rank_kernels(k, walk.ranks)
    return energy_of(engine, walk.devices, k.ranks, limit)


@compiled
def _advance(search: JointSearch, moves: int, temperature: float) -> None:
    walk, k, groups = search.walk, search.kernels, search.groups
    for _ in range(moves):
        group, op = -1, -1
        if search.fusible.size > 0 and draw_uniform(walk.random_state) < search.fusion_share:
            op = _flip_some(search)
            if op < 0:
                continue
        else:
            _, group, device = draw_move(search.unfused, groups, walk, search.neighbour_share)
            if not groups.allowed[group, device] or not make_move(groups, walk, group, device):
                continue
            find_kernels(search.sources, k, walk.devices)
        walk.counts[EVALUATED] += 1
        limit = draw_limit(walk, temperature)
        energy = _energy(search, limit)
        if energy <= limit:
            if energy < walk.energies[BEST]:
                for at in range(walk.devices.size):
                    search.best_wishes[at] = k.wishes[at]
            accept(walk, energy)
        elif op >= 0:
            k.wishes[op] = 1 - k.wishes[op]
        else:
            take_back(groups, walk, group)


@inlined
def _flip_some(search: JointSearch) -> int:
    """Change the wish of a random op for which that makes a difference; -1 if none was met."""
    k, walk = search.kernels, search.walk
    for _ in range(8):
        op = search.fusible[int(draw_uniform(walk.random_state) * search.fusible.size)]
        k.wishes[op] = 1 - k.wishes[op]
        fused = k.wishes[op] != 0
        find_kernels(search.sources, k, walk.devices)
        if (k.roots[op] != op) == fused:
            return op
        k.wishes[op] = 1 - k.wishes[op]
    return -1


def _roots(fused: FusedProblem) -> np.ndarray:
    roots = np.zeros(fused.kernels.graph.op_count, np.int64)
    roots[fused.kernel_of] = np.arange(len(fused.kernel_of))
    return roots
