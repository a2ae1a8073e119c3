"""Weights and inputs where all workers can see them: put there, and mapped in a worker."""

import mmap
import os
from collections.abc import Mapping

import numpy as np

from placement.runtime.ort.messages import ShareWeights
from placement.runtime.processes.mailboxes import unnamed_file
from placement.runtime.processes.messages import TensorType

_ALIGNMENT = 64


def share(arrays: Mapping[str, np.ndarray]) -> tuple[ShareWeights, int]:
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


class SharedTensors:
    """Weights and inputs that all workers see in one piece of memory, read only by habit."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    @staticmethod
    def mapped(descriptor: int, message: ShareWeights) -> "SharedTensors":
        """Views into the memory behind a descriptor, which is closed."""
        tensors = SharedTensors()
        memory = mmap.mmap(descriptor, message.size)
        os.close(descriptor)
        for name, (offset, kind) in message.table.items():
            count = int(np.prod(kind.shape, dtype=np.int64))
            flat = np.frombuffer(memory, kind.dtype, count, offset)
            tensors.arrays[name] = flat.reshape(kind.shape)
        return tensors
