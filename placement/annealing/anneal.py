"""Simulated annealing over moves of nested groups, compiled together with the event engine."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from placement.annealing.hierarchy import Hierarchy
from placement.annealing.moves import MoveGroups, draw_move, make_move, move_groups, take_back
from placement.annealing.walk import (
    EVALUATED,
    Engine,
    Walk,
    accept,
    begin_walk,
    draw_limit,
    energy_of,
    make_engine,
)
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.kernel_checks import check_plan
from simulator.plan import Plan, priority_ranks


@dataclass(frozen=True, eq=False)
class Chain:
    """The state of one annealing chain; `Annealer.advance` gives the next one."""

    devices: Int32[np.ndarray, " ops"]
    ranks: Int32[np.ndarray, " ops"]
    """Scheduling order; moves leave it alone."""
    energy: float
    """Logarithm of the step time, with a charge for memory over capacity."""
    best_devices: Int32[np.ndarray, " ops"]
    best_ranks: Int32[np.ndarray, " ops"]
    best_energy: float
    random_state: int
    evaluations: int = 0
    accepted: int = 0

    @property
    def best_plan(self) -> Plan:
        """The best plan that was met."""
        return Plan.of(self.best_devices, -self.best_ranks.astype(np.float64))

    def went_on(self, walk: Walk) -> "Chain":
        """The chain after compiled moves."""
        plan, best = walk.energies.tolist()
        evaluations, accepted = walk.counts.tolist()
        return replace(
            self,
            devices=walk.devices,
            energy=plan,
            best_devices=walk.best_devices,
            best_ranks=self.ranks if best < self.best_energy else self.best_ranks,
            best_energy=best,
            random_state=int(walk.random_state[0]),
            evaluations=self.evaluations + evaluations,
            accepted=self.accepted + accepted,
        )


class Search(NamedTuple):
    """What compiled moves need, of any kind of annealing."""

    engine: Engine
    groups: MoveGroups
    walk: Walk
    neighbour_share: float


@dataclass(frozen=True, eq=False)
class Annealer:
    """Moves groups of a hierarchy between devices; keeps the kernel's buffers between calls."""

    problem: Problem
    hierarchy: Hierarchy
    neighbour_share: float = 0.5
    """How often a group moves to where an op next to it is, rather than anywhere."""
    whole: bool = False
    """Whether plans that will be refused are simulated to the end, with their memory, as all others
    are: slower, with the same decisions."""
    _engine: Engine = field(init=False)
    groups: MoveGroups = field(init=False)
    """The hierarchy's, as kernels read them."""

    def __post_init__(self) -> None:
        program, cluster = self.problem.simulator.program.arrays, self.problem.cluster
        engine = make_engine(program, cluster.memory_bytes, whole=self.whole)
        groups = move_groups(self.hierarchy, *program.seconds.shape)
        object.__setattr__(self, "_engine", engine)
        object.__setattr__(self, "groups", groups)

    def start(
        self, devices: Int32[np.ndarray, " ops"], ranks: Int32[np.ndarray, " ops"], seed: int
    ) -> Chain:
        """A chain at a given placement and scheduling order."""
        energy = self.energy(devices, ranks)
        random_state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) | 1
        return Chain(devices, ranks, energy, devices, ranks, energy, random_state)

    def energy(self, devices: Int32[np.ndarray, " ops"], ranks: Int32[np.ndarray, " ops"]) -> float:
        """Logarithm of the simulated step time, with the charge for memory."""
        # Copies: numba compiles anew for arrays that cannot be written.
        devices, ranks = devices.copy(), ranks.copy()
        check_plan(devices, ranks, self._engine.peak, self._engine.program.seconds.shape)
        return float(energy_of(self._engine, devices, ranks, np.inf))

    def reprioritise(self, chain: Chain) -> Chain:
        """The chain under critical-path priorities of its placement, if that is no worse."""
        ranks = priority_ranks(upward_ranks(self.problem, chain.devices))
        energy = self.energy(chain.devices, ranks)
        if energy > chain.energy:
            return chain
        chain = replace(chain, ranks=ranks, energy=energy)
        if energy < chain.best_energy:
            chain = replace(chain, best_energy=energy, best_devices=chain.devices, best_ranks=ranks)
        return chain

    def advance(self, chain: Chain, moves: int, temperature: float) -> Chain:
        """Propose `moves` moves, each of a random group of a random level to a random device.

        A move is accepted if it raises the energy by less than `temperature` times a draw from
        the unit exponential distribution.
        """
        search = self.search(chain)
        _advance(search, moves, float(temperature))
        return chain.went_on(search.walk)

    def search(self, chain: Chain) -> Search:
        """What compiled moves from a chain's plan need; the chain stays as it is."""
        walk = begin_walk(
            chain.devices,
            chain.ranks,
            chain.best_devices,
            (chain.energy, chain.best_energy),
            chain.random_state,
            self._engine.program.seconds.shape,
        )
        return Search(self._engine, self.groups, walk, float(self.neighbour_share))


@compiled
def _advance(search: Search, moves: int, temperature: float) -> None:
    engine, groups, walk = search.engine, search.groups, search.walk
    for _ in range(moves):
        _, group, device = draw_move(engine.program, groups, walk, search.neighbour_share)
        if not groups.allowed[group, device] or not make_move(groups, walk, group, device):
            continue
        walk.counts[EVALUATED] += 1
        limit = draw_limit(walk, temperature)
        energy = energy_of(engine, walk.devices, walk.ranks, limit)
        if energy <= limit:
            accept(walk, energy)
        else:
            take_back(groups, walk, group)
