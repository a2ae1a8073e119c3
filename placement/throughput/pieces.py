"""A linear order cut into pieces, each on a device: a contiguous split, or one that comes to each
device several times.

A device that has several pieces, spread over the order, works sooner and stands still for less of a
training step: the interleaved pipeline of Narayanan et al. (Megatron-LM, SC 2021, section 2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32

from placement.throughput.load_problem import LoadProblem


@dataclass(frozen=True, eq=False)
class Pieces:
    """Where each piece begins in the order, and where it runs."""

    positions: Int32[np.ndarray, " units"]
    """Of units in the order; those at one position stay together."""
    firsts: tuple[int, ...]
    """The first position of each piece, 0 first; ascending."""
    devices: tuple[int, ...]

    @property
    def units(self) -> Int32[np.ndarray, " units"]:
        """The device of each unit."""
        piece = np.searchsorted(self.firsts, self.positions, side="right") - 1
        return np.array(self.devices, np.int32)[piece]

    @property
    def count(self) -> int:
        """Pieces."""
        return len(self.firsts)

    def length(self, piece: int) -> int:
        """Positions of a piece."""
        ends = (*self.firsts[1:], int(self.positions.max()) + 1)
        return ends[piece] - self.firsts[piece]

    def shifted(self, border: int, by: int) -> "Pieces | None":
        """With the border before a piece moved; None where a piece would be left empty."""
        ends = (*self.firsts[1:], int(self.positions.max()) + 1)
        place = self.firsts[border] + by
        if not self.firsts[border - 1] < place < ends[border]:
            return None
        return replace(self, firsts=(*self.firsts[:border], place, *self.firsts[border + 1 :]))

    def swapped(self, first: int, second: int) -> "Pieces":
        """With the devices of two pieces exchanged."""
        devices = list(self.devices)
        devices[first], devices[second] = devices[second], devices[first]
        return replace(self, devices=tuple(devices))


def pieces_of(positions: Int32[np.ndarray, " units"], units: Int32[np.ndarray, " units"]) -> Pieces:
    """The runs of one device along an order; a position is on the device of its first unit."""
    order = np.argsort(positions, kind="stable")
    at, first = np.unique(positions[order], return_index=True)
    devices = units[order][first]
    begins = np.flatnonzero(np.append(True, devices[1:] != devices[:-1]))
    firsts = [0, *at[begins[1:]].tolist()]
    return Pieces(positions, tuple(firsts), tuple(devices[begins].tolist()))


def looped_pieces(
    problem: LoadProblem,
    positions: Int32[np.ndarray, " units"],
    devices: Sequence[int],
    rounds: int,
) -> Pieces | None:
    """Pieces of equal time that come to each device in turn; None where the order is too short.

    Args:
        devices: in the order in which a step comes to them, each once.
        rounds: how often it does.
    """
    seconds = problem.arrays.seconds[:, list(devices)]
    if not np.isfinite(seconds).all():
        return None
    pace = 1.0 / np.maximum(seconds.sum(axis=0), 1e-300)
    shares = np.cumsum(np.tile(pace, rounds))
    weight = np.bincount(positions, seconds.mean(axis=1))
    done = np.cumsum(weight) / weight.sum()
    begins = np.searchsorted(done, shares[:-1] / shares[-1], side="right")
    firsts = (0, *begins.tolist())
    if any(a >= b for a, b in zip(firsts, (*firsts[1:], len(weight)), strict=True)):
        return None
    return Pieces(positions, firsts, tuple(devices) * rounds)
