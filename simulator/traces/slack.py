"""How much later each op of a trace could end without making the step longer."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32

from simulator.compiled import compiled

#: Slack below this share of the step counts as none: such ops are critical.
CRITICAL_SHARE = 1e-6


class RanOps(NamedTuple):
    """When ops ran, what they waited for, and room to work in."""

    order: Int32[np.ndarray, " ops"]
    """Producers before consumers, and each device's ops in the order in which they ran."""
    start: Float64[np.ndarray, " ops"]
    end: Float64[np.ndarray, " ops"]
    previous: Int32[np.ndarray, " ops"]
    """The op that held the device just before, or -1."""
    input_offsets: Int32[np.ndarray, " ops+1"]
    input_edges: Int32[np.ndarray, " edges"]
    edge_producers: Int32[np.ndarray, " edges"]
    edge_arrival: Float64[np.ndarray, " edges"]
    """When each edge's tensor was where it is read."""
    passed: Bool[np.ndarray, " ops"]
    """Scratch."""


@compiled
def slack_backward(ran: RanOps, makespan: float, slack: Float64[np.ndarray, " ops"]) -> None:
    """How much later each op could end while every device keeps its order of ops, in seconds.

    Transfers count with the time that they took. `ran.order` may list ops that take no time after
    the one that held their device before them; then it takes another round.
    """
    for op in range(slack.size):
        slack[op] = makespan - ran.end[op]
    again = True
    while again:
        again = False
        ran.passed[:] = False
        for position in range(slack.size - 1, -1, -1):
            op = ran.order[position]
            ran.passed[op] = True
            late = slack[op] + ran.start[op]
            before = ran.previous[op]
            if before >= 0 and late - ran.end[before] < slack[before]:
                slack[before] = late - ran.end[before]
                again |= ran.passed[before]
            for index in range(ran.input_offsets[op], ran.input_offsets[op + 1]):
                edge = ran.input_edges[index]
                producer = ran.edge_producers[edge]
                slack[producer] = min(slack[producer], late - ran.edge_arrival[edge])
