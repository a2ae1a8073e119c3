"""The chain of ops and transfers that the step time is made of, and why each had to wait."""

from dataclasses import dataclass
from typing import Literal

from simulator.traces.trace import Trace


@dataclass(frozen=True)
class PathStep:
    """One link of the critical path; steps follow each other without gaps, latest last."""

    what: Literal["op", "transfer"]
    index: int
    """Index of the op, or of the transfer in the trace."""
    start_seconds: float
    end_seconds: float
    because: Literal["source", "input", "transfer", "held", "device busy", "link busy"]
    """Why it did not start earlier: nothing did hold it; its last input was made here, or had to
    be sent; the plan held it back; its device ran another op; its link carried another transfer."""


def critical_path(trace: Trace) -> tuple[PathStep, ...]:
    """Walk back from the op that ends last; O(length of the path)."""
    steps: list[PathStep] = []
    op, transfer = int(trace.end.argmax()), -1
    while op >= 0 or transfer >= 0:
        if op >= 0:
            start = float(trace.start[op])
            waited = start > trace.ready[op] and trace.previous[op] >= 0
            cause: Literal["source", "input", "transfer", "held", "device busy"]
            if waited:
                following, cause = (int(trace.previous[op]), -1), "device busy"
            elif trace.cause_transfer[op] >= 0:
                following, cause = (-1, int(trace.cause_transfer[op])), "transfer"
            elif trace.cause_op[op] >= 0:
                following, cause = (int(trace.cause_op[op]), -1), "input"
            elif trace.released_by[op] >= 0:
                following, cause = (int(trace.released_by[op]), -1), "held"
            else:
                following, cause = (-1, -1), "source"
            steps.append(PathStep("op", op, start, float(trace.end[op]), cause))
        else:
            start = float(trace.transfer_start[transfer])
            blocker = int(trace.transfer_blocker[transfer])
            producer = int(trace.graph.tensor_producers[trace.transfer_tensors[transfer]])
            blocked = blocker >= 0 and start > trace.transfer_request[transfer]
            following = (-1, blocker) if blocked else (producer, -1)
            arrival = float(trace.transfer_arrival[transfer])
            steps.append(
                PathStep("transfer", transfer, start, arrival, "link busy" if blocked else "input")
            )
        op, transfer = following
    return tuple(reversed(steps))


def critical_seconds(trace: Trace) -> dict[str, float]:
    """Share of the makespan that computing and sending take on the critical path, in seconds."""
    totals = {"compute": 0.0, "transfer": 0.0}
    clock = 0.0
    for step in critical_path(trace):
        totals["compute" if step.what == "op" else "transfer"] += step.end_seconds - clock
        clock = step.end_seconds
    return totals
