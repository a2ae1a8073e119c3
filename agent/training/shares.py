"""Which worker learns from which graphs of a batch: each from as many, and of about as many ops."""

from collections.abc import Sequence


def even_shares(costs: Sequence[float], count: int) -> list[int]:
    """The worker of each slot.

    The costliest slot that is left goes to the worker with the least to do so far, of those that
    have room. All workers come to the same, whatever happened before.

    Args:
        costs: of each slot, in any unit.
        count: workers; each gets the same number of slots.
    """
    load, room = [0.0] * count, [len(costs) // count] * count
    owners = [0] * len(costs)
    for slot in sorted(range(len(costs)), key=lambda number: (-costs[number], number)):
        open_ones = (worker for worker in range(count) if room[worker])
        owners[slot] = min(open_ones, key=lambda worker: (load[worker], -room[worker], worker))
        load[owners[slot]] += costs[slot]
        room[owners[slot]] -= 1
    return owners


def in_order(slots: int, count: int) -> list[int]:
    """The worker of each slot: the same in every round, for what a slot keeps from one to the
    next."""
    return [slot % count for slot in range(slots)]
