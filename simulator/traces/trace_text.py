"""Traces for a terminal: a bar per device, its use, and the critical path in words."""

import numpy as np

from simulator.traces.critical_path import critical_path, critical_seconds
from simulator.traces.trace import Trace
from simulator.units import format_bytes, format_seconds

_LEVELS = " ░▒▓█"


def trace_text(trace: Trace, width: int = 60) -> str:
    """A utilisation bar per device, then what the critical path consists of."""
    names = trace.cluster.device_names
    label = max(len(name) for name in names)
    lines = []
    for device, name in enumerate(names):
        share = trace.busy_seconds[device] / trace.makespan_seconds if trace.makespan_seconds else 0
        peak = format_bytes(float(trace.peak_bytes[device]))
        lines.append(
            f"{name:<{label}} |{_bar(trace, device, width)}| {share:4.0%} busy, peak {peak}"
        )
    sent = format_bytes(float(trace.transfers_between().sum()))
    lines.append(f"{len(trace.transfer_tensors)} transfers, {sent}")
    parts = critical_seconds(trace)
    total = format_seconds(trace.makespan_seconds)
    lines.append(
        f"critical path {total}: compute {format_seconds(parts['compute'])}, "
        f"transfers {format_seconds(parts['transfer'])}, {len(critical_path(trace))} steps"
    )
    return "\n".join(lines)


def _bar(trace: Trace, device: int, width: int) -> str:
    mine = (trace.devices == device) & (trace.end > trace.start)
    edges = np.linspace(0.0, trace.makespan_seconds, width + 1)
    busy = _busy_until(edges, trace.start[mine], trace.end[mine])
    shares = np.diff(busy) / np.maximum(np.diff(edges), 1e-300)
    return "".join(_LEVELS[min(4, int(share * 4 + 0.5))] for share in shares)


def _busy_until(instants: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Seconds of work done before each instant; slices do not overlap."""
    order = np.argsort(start)
    start, end = start[order], end[order]
    done = np.concatenate([[0.0], np.cumsum(end - start)])
    begun = np.searchsorted(start, instants, side="right")
    running = np.clip(end[begun - 1] - instants, 0.0, None) if start.size else 0.0
    return np.where(begun > 0, done[begun] - running, 0.0)
