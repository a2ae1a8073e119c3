"""Longest chains forward through a graph."""

import numpy as np

from simulator.compiled import compiled


@compiled
def longest_before(
    own: np.ndarray,
    tensor_seconds: np.ndarray,
    output_offsets: np.ndarray,
    consumer_offsets: np.ndarray,
    consumers: np.ndarray,
    ranks: np.ndarray,
) -> None:
    """Longest chain of seconds from the beginning to each op's start; `ranks` begins as zeros."""
    for op in range(own.size):
        for tensor in range(output_offsets[op], output_offsets[op + 1]):
            reached = ranks[op] + own[op] + tensor_seconds[tensor]
            for edge in range(consumer_offsets[tensor], consumer_offsets[tensor + 1]):
                consumer = consumers[edge]
                ranks[consumer] = max(ranks[consumer], reached)
