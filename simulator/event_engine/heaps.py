"""The two binary heaps of the event engine: events by (time, key), ready ops by rank.

Removal walks the hole down to a leaf, choosing children without a branch, and lets the last
element rise from there: fewer mispredicted branches than comparing at each level.
"""

import numpy as np

from simulator.compiled import inlined

_NO_RANK = np.iinfo(np.int32).max


@inlined
def push_event(times: np.ndarray, keys: np.ndarray, size: int, time: float, key: int) -> int:
    """Insert into the heap ordered by (time, key); returns the new size."""
    rise_event(times, keys, size, time, key)
    return size + 1


@inlined
def pop_event(times: np.ndarray, keys: np.ndarray, size: int) -> int:
    """Remove the first event (read it before); returns the new size."""
    size -= 1
    time = times[size]
    key = keys[size]
    times[size] = np.inf
    position = 0
    child = 1
    while child < size:
        left, right = times[child], times[child + 1]
        child += (right < left) | ((right == left) & (keys[child + 1] < keys[child]))
        times[position] = times[child]
        keys[position] = keys[child]
        position = child
        child = 2 * position + 1
    rise_event(times, keys, position, time, key)
    return size


@inlined
def rise_event(times: np.ndarray, keys: np.ndarray, position: int, time: float, key: int) -> None:
    """Put an event where it belongs on the way from a free position to the root."""
    while position > 0:
        parent = (position - 1) >> 1
        if times[parent] < time or (times[parent] == time and keys[parent] <= key):
            break
        times[position] = times[parent]
        keys[position] = keys[parent]
        position = parent
    times[position] = time
    keys[position] = key


@inlined
def push_rank(heap: np.ndarray, base: int, size: int, rank: int) -> None:
    """Insert into the heap of ranks that begins at `base` and holds `size`."""
    rise_rank(heap, base, size, rank)


@inlined
def pop_rank(heap: np.ndarray, base: int, size: int) -> int:
    """Remove and return the lowest rank of the heap that begins at `base` and holds `size`."""
    first = heap[base]
    size -= 1
    rank = heap[base + size]
    heap[base + size] = _NO_RANK
    position = 0
    child = 1
    while child < size:
        child += heap[base + child + 1] < heap[base + child]
        heap[base + position] = heap[base + child]
        position = child
        child = 2 * position + 1
    rise_rank(heap, base, position, rank)
    return first


@inlined
def rise_rank(heap: np.ndarray, base: int, position: int, rank: int) -> None:
    """Put a rank where it belongs on the way from a free position to the root."""
    while position > 0:
        parent = (position - 1) >> 1
        if heap[base + parent] <= rank:
            break
        heap[base + position] = heap[base + parent]
        position = parent
    heap[base + position] = rank
