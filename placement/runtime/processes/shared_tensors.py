"""Puts weights and inputs where all workers can see them."""

import mmap

import numpy as np

from placement.runtime.processes.mailboxes import unnamed_file
from placement.runtime.processes.messages import ShareWeights, TensorType

_ALIGNMENT = 64


def share(arrays: dict[str, np.ndarray]) -> tuple[ShareWeights, int]:
    """Copy arrays into one unnamed file; returns the message for workers and the descriptor."""
    table: dict[str, tuple[int, TensorType]] = {}
    position = 0
    for name, array in arrays.items():
        table[name] = (position, TensorType(array.dtype.name, tuple(array.shape)))
        position += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    size = max(position, mmap.PAGESIZE)
    descriptor = unnamed_file(size)
    with mmap.mmap(descriptor, size) as memory:
        for name, array in arrays.items():
            offset = table[name][0]
            memory[offset : offset + array.nbytes] = array.tobytes()
    return ShareWeights(size, table), descriptor
