"""Longest chains forward through a graph, and slack backward through a trace."""

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


@compiled
def slack_backward(
    order: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    previous: np.ndarray,
    makespan: float,
    input_offsets: np.ndarray,
    input_edges: np.ndarray,
    edge_producers: np.ndarray,
    edge_arrival: np.ndarray,
    passed: np.ndarray,
    slack: np.ndarray,
) -> None:
    """How much later each op could end while every device keeps its order of ops.

    `order` lists ops by start, latest first, consumers before producers. Transfers count with the
    time that they took. Ops that take no time may be listed after the one that held their device
    before them; then it takes another round.
    `passed` is scratch space of a bool per op.
    """
    for op in range(slack.size):
        slack[op] = makespan - end[op]
    again = True
    while again:
        again = False
        passed[:] = False
        for op in order:
            passed[op] = True
            late = slack[op]
            before = previous[op]
            if before >= 0 and late + start[op] - end[before] < slack[before]:
                slack[before] = late + start[op] - end[before]
                again |= passed[before]
            for position in range(input_offsets[op], input_offsets[op + 1]):
                edge = input_edges[position]
                producer = edge_producers[edge]
                slack[producer] = min(slack[producer], late + start[op] - edge_arrival[edge])
