"""Latency and pace between each pair of cores, by sending tensors there and back."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from placement.runtime.ort.messages import WORKER, LoadSessions
from placement.runtime.processes.mailboxes import layout, unnamed_file
from placement.runtime.processes.messages import (
    Execute,
    Executed,
    ProgramPart,
    TensorType,
    Unload,
)
from placement.runtime.processes.workers import WorkerPool, usable_cores
from placement.runtime.programs.device_program import Receive, Send, Step, Transfer
from simulator.clusters.cluster import Cluster

#: Source and target, by number of the device.
Pair = tuple[int, int]

_SIZES = (64, 4 << 10, 64 << 10, 1 << 20)
_ROUND_TRIPS = 60
_WARM_UP = 10
_TIMEOUT_SECONDS = 20.0
_SPIN_SECONDS = 2e-3
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class ProbedLink:
    """What it takes to get a tensor from one core to another, once it is in its mailbox."""

    latency_seconds: float
    """Until the receiver notices; half of what a round trip takes beyond the work of both cores.
    Zero between devices that share a core."""
    bytes_per_second: float
    """The pace at which the receiver copies."""


def probe_links(cluster: Cluster) -> Mapping[Pair, ProbedLink]:
    """Measure each ordered pair of devices, one after the other.

    Raises:
        WorkerFailure: a process that measures failed.
    """
    count = cluster.device_count
    links: dict[Pair, ProbedLink] = {}
    with WorkerPool(cluster.device_names, usable_cores(), WORKER) as pool:
        number = 0
        for source in range(count):
            for target in range(source + 1, count):
                runs = []
                for size in _SIZES:
                    runs.append(_round_trips(pool, number, source, target, size))
                    number += 1
                same = pool.cores[source % len(pool.cores)] == pool.cores[target % len(pool.cores)]
                latency = 0.0 if same else _latency(*runs[0])
                for pair, at in (((source, target), 1), ((target, source), 0)):
                    taken = [_receiving(run[at], at) for run in runs]
                    slope = np.polyfit(_SIZES, taken, 1)[0]
                    links[pair] = ProbedLink(latency, 1.0 / max(float(slope), 1e-13))
    return links


def _round_trips(
    pool: WorkerPool, number: int, source: int, target: int, size: int
) -> tuple[Executed, Executed]:
    """Send a tensor there and back many times; the program of the first and of the second."""
    types = {"there": TensorType("uint8", (size,)), "back": TensorType("uint8", (size,))}
    transfers = (Transfer("there", 0, 1), Transfer("back", 1, 0))
    steps: tuple[tuple[Step, ...], ...] = ((Send(0), Receive(1)), (Receive(0), Send(1)))
    ends = (source, target)
    kinds = tuple(types.values())
    descriptor = unnamed_file(layout(transfers, kinds, 2).size)
    loads = {
        device: LoadSessions(
            ProgramPart(number, at, steps[at], transfers, kinds, 2, _SPIN_SECONDS, None), {}, types
        )
        for at, device in enumerate(ends)
    }
    try:
        pool.ask(loads, _TIMEOUT_SECONDS, dict.fromkeys(loads, descriptor))
    finally:
        os.close(descriptor)
    order = Execute(number, 1, _ROUND_TRIPS, _TIMEOUT_SECONDS)
    answers = pool.ask(dict.fromkeys(ends, order), _TIMEOUT_SECONDS + 1.0)
    pool.ask(dict.fromkeys(ends, Unload(number)), _TIMEOUT_SECONDS)
    return answers[source], answers[target]


def _latency(first: Executed, second: Executed) -> float:
    """Seconds one way; of the least disturbed quarter, since a busy machine only adds."""
    work = first.step_cpu.sum(axis=1) + second.step_cpu.sum(axis=1)
    waited = (first.wall_end - first.wall_begin - work)[_WARM_UP:] / 2
    return max(float(np.quantile(waited, 0.25)) * _NANOSECONDS, 0.0)


def _receiving(executed: Executed, at: int) -> float:
    """Seconds of CPU that the receive of one end takes; it comes second at the first end."""
    return float(np.median(executed.step_cpu[_WARM_UP:, 1 - at])) * _NANOSECONDS
