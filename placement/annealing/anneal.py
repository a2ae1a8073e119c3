"""Simulated annealing over moves of nested groups, compiled together with the event engine."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int32, UInt64

from placement.annealing.energy import energy_of_plan
from placement.annealing.hierarchy import Hierarchy
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.compiled import compiled, inlined
from simulator.event_engine.kernel import NO_RECORDING, Recording, State, make_state, run_kernel
from simulator.event_engine.program import ProgramArrays
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

    def went_on(
        self,
        devices: Int32[np.ndarray, " ops"],
        best: Int32[np.ndarray, " ops"],
        energies: Float64[np.ndarray, " two"],
        random_state: UInt64[np.ndarray, " one"],
        evaluations: int,
        accepted: int,
    ) -> "Chain":
        """The chain after compiled moves: `energies` are the last plan's and the best plan's."""
        return replace(
            self,
            devices=devices,
            energy=float(energies[0]),
            best_devices=best,
            best_ranks=self.ranks if energies[1] < self.best_energy else self.best_ranks,
            best_energy=float(energies[1]),
            random_state=int(random_state[0]),
            evaluations=self.evaluations + evaluations,
            accepted=self.accepted + accepted,
        )


@dataclass(frozen=True, eq=False)
class Annealer:
    """Moves groups of a hierarchy between devices; keeps the kernel's buffers between calls."""

    problem: Problem
    hierarchy: Hierarchy
    neighbour_share: float = 0.5
    """How often a group moves to where an op next to it is, rather than anywhere."""
    state: State = field(init=False)

    def __post_init__(self) -> None:
        state = make_state(self.problem.simulator.program.arrays)
        object.__setattr__(self, "state", state)

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
        peak = np.zeros(self.problem.cluster.device_count, np.int64)
        arrays = self.problem.simulator.program.arrays
        capacity = self.problem.cluster.memory_bytes
        return float(energy_of(arrays, self.state, devices, ranks, capacity, peak, NO_RECORDING))

    def reprioritised(self, chain: Chain) -> Chain:
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
        devices, best = chain.devices.copy(), chain.best_devices.copy()
        energies = np.array([chain.energy, chain.best_energy])
        random_state = np.array([chain.random_state], np.uint64)
        counts = np.zeros(2, np.int64)
        hierarchy = self.hierarchy
        _advance(
            self.problem.simulator.program.arrays,
            self.state,
            devices,
            chain.ranks.copy(),
            self.problem.cluster.memory_bytes,
            hierarchy.level_offsets,
            hierarchy.member_offsets,
            hierarchy.members,
            hierarchy.allowed,
            moves,
            temperature,
            self.neighbour_share,
            best,
            energies,
            random_state,
            counts,
            np.zeros(self.problem.cluster.device_count, np.int64),
            np.empty(len(devices), np.int32),
            NO_RECORDING,
        )
        return chain.went_on(devices, best, energies, random_state, int(counts[0]), int(counts[1]))


@inlined
def energy_of(
    p: ProgramArrays,
    s: State,
    devices: np.ndarray,
    ranks: np.ndarray,
    capacity: np.ndarray,
    peak: np.ndarray,
    recording: Recording,
) -> float:
    makespan = run_kernel(p, s, devices, ranks, peak, recording)
    return energy_of_plan(makespan, peak, capacity)


@inlined
def random_share(state: np.ndarray) -> float:
    """xorshift64*: uniform in [0, 1) (Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return ((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inlined
def neighbour_device(
    p: ProgramArrays, devices: np.ndarray, op: int, random_state: np.ndarray
) -> int:
    """Device of a random producer or consumer of an op; its own if it has neither."""
    inputs = p.input_offsets[op + 1] - p.input_offsets[op]
    first = p.consumer_offsets[p.output_offsets[op]]
    outputs = p.consumer_offsets[p.output_offsets[op + 1]] - first
    if inputs + outputs == 0:
        return devices[op]
    drawn = int(random_share(random_state) * (inputs + outputs))
    if drawn < inputs:
        tensor = p.edge_tensors[p.input_edges[p.input_offsets[op] + drawn]]
        return devices[p.tensor_producers[tensor]]
    return devices[p.consumers[first + drawn - inputs]]


@compiled
def _advance(
    p: ProgramArrays,
    s: State,
    devices: np.ndarray,
    ranks: np.ndarray,
    capacity: np.ndarray,
    level_offsets: np.ndarray,
    member_offsets: np.ndarray,
    members: np.ndarray,
    allowed: np.ndarray,
    moves: int,
    temperature: float,
    neighbour_share: float,
    best: np.ndarray,
    energies: np.ndarray,
    random_state: np.ndarray,
    counts: np.ndarray,
    peak: np.ndarray,
    undo: np.ndarray,
    recording: Recording,
) -> None:
    device_count = capacity.size
    levels = level_offsets.size - 1
    for _ in range(moves):
        level = int(random_share(random_state) * levels)
        width = level_offsets[level + 1] - level_offsets[level]
        group = level_offsets[level] + int(random_share(random_state) * width)
        first, last = member_offsets[group], member_offsets[group + 1]
        if random_share(random_state) < neighbour_share:
            op = members[first + int(random_share(random_state) * (last - first))]
            device = neighbour_device(p, devices, op, random_state)
        else:
            device = int(random_share(random_state) * device_count)
        if not allowed[group, device]:
            continue
        changed = False
        for index in range(first, last):
            op = members[index]
            undo[index - first] = devices[op]
            changed |= devices[op] != device
            devices[op] = device
        if not changed:
            continue
        counts[0] += 1
        energy = energy_of(p, s, devices, ranks, capacity, peak, recording)
        if energy <= energies[0] - temperature * np.log(1.0 - random_share(random_state)):
            counts[1] += 1
            energies[0] = energy
            if energy < energies[1]:
                energies[1] = energy
                for op in range(devices.size):
                    best[op] = devices[op]
        else:
            for index in range(first, last):
                devices[members[index]] = undo[index - first]
