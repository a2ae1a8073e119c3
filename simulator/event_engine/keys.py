"""Where things of a step stand: an op's key, and places in what is kept slot by slot.

These functions are called everywhere, and become part of each caller. They are handed no more than
they need, for compiling a call takes time for each array that is handed over.
"""

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from graphs.kinds import Phase
from simulator.compiled import inlined
from simulator.event_engine.overlap import Slots

_UPDATE = int(Phase.UPDATE)


@inlined
def several(n: Slots) -> bool:
    """Whether steps overlap; known when a kernel is compiled, once for either case."""
    return len(n.several) > 0


@inlined
def row_of(n: Slots, slot: int) -> int:
    """The row of what is in a slot."""
    return n.row[slot] if several(n) else 0


@inlined
def key_of(
    n: Slots, order_offsets: Int64[np.ndarray, " ordered"], slot: int, op: int, rank: int
) -> int:
    """Where an op stands in the order of its device, and of what ends at one instant."""
    key = rank
    if several(n):
        key += n.row[slot] * n.ops
        if n.phases_apart > 0:
            key += order_offsets[op]
    return key


@inlined
def transfer_keys(n: Slots) -> int:
    """Beyond all keys of ops: numbers of transfers begin here."""
    return (1 + n.phases_apart) * n.rows * n.ops if several(n) else n.ops


@inlined
def transfer_place(n: Slots, number: int) -> int:
    """Where a transfer is kept while somebody needs it."""
    return number % n.transfers if several(n) else number


@inlined
def rank_of_key(n: Slots, key: int) -> int:
    """The rank of the op whose key it is."""
    return key % n.ops if several(n) else key


@inlined
def slot_of_key(n: Slots, key: int) -> int:
    """The slot of the step that the key is of."""
    if not several(n):
        return 0
    row = key // n.ops
    if row >= n.rows:
        row -= n.rows
    return n.in_flight if row == n.steps else row % n.in_flight


@inlined
def reference_at(n: Slots, slot: int, copy: int) -> int:
    """The place of a copy: originals slot by slot, then transfers, which are numbered for all."""
    if not several(n):
        return copy
    if copy < n.tensors:
        return slot * n.tensors + copy
    return (n.in_flight + n.updates - 1) * n.tensors + copy


@inlined
def edge_at(n: Slots, slot: int, edge: int) -> int:
    """The place of an edge of a slot."""
    return slot * n.edges + edge if several(n) else edge


@inlined
def op_at(n: Slots, slot: int, op: int) -> int:
    """The place of an op of a slot."""
    return slot * n.ops + op if several(n) else op


@inlined
def in_updates(n: Slots, slot: int) -> bool:
    """Whether a slot is that of the updates."""
    return several(n) and slot == n.in_flight


@inlined
def runs_in(n: Slots, phases: UInt8[np.ndarray, " phased"], slot: int, op: int) -> bool:
    """Whether an op runs in a slot: in a step, or with the updates."""
    if not several(n) or n.updates == 0:
        return True
    return (phases[op] == _UPDATE) == (slot == n.in_flight)


@inlined
def kernel_seconds(
    n: Slots,
    seconds: Float64[np.ndarray, "ops devices"],
    accumulate_seconds: Float64[np.ndarray, "accumulating devices"],
    slot: int,
    op: int,
    device: int,
) -> float:
    """What an op takes on its device, and in steps after the first, adding to their sums."""
    taken = seconds[op, device]
    if several(n) and n.updates > 0 and n.row[slot] > 0:
        taken += accumulate_seconds[op, device]
    return taken
