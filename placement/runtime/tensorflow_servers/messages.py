"""What TensorFlow workers are told and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from placement.runtime.processes.messages import Message

#: The module that such a worker runs.
WORKER = "placement.runtime.tensorflow_servers.worker"


@dataclass(frozen=True)
class FindPort(Message[int]):
    """Find a port of the loopback interface that is free now."""


@dataclass(frozen=True)
class StartServer(Message[None]):
    """Become a device: a server with one task of the job `worker`."""

    addresses: tuple[str, ...]
    task: int


@dataclass(frozen=True)
class OpenGraph(Message[None]):
    """Open a session, give every variable its value."""

    number: int
    address: str
    graph: bytes
    """A GraphDef with a device for each node."""
    fetches: tuple[str, ...]
    """Ops to run; of those that have a plain number as first output, the value is fetched."""
    seed: int


@dataclass(frozen=True, eq=False)
class TracedStep:
    """Step statistics and results of one step."""

    devices: Mapping[str, str]
    """The device of each node that ran; empty for constants that ran wherever they were read."""
    seconds: Mapping[str, float]
    """Wall time of each."""
    results: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TraceGraph(Message[TracedStep]):
    """Run one step and tell what ran where."""

    number: int
    timeout_seconds: float


@dataclass(frozen=True, eq=False)
class RanGraph:
    """Seconds of each step, and the longest that a server waited for its core meanwhile."""

    wall: np.ndarray
    delay: np.ndarray


@dataclass(frozen=True)
class RunGraph(Message[RanGraph]):
    """Run steps."""

    number: int
    iterations: int
    timeout_seconds: float
    servers: tuple[int, ...]
    """Processes whose waiting for a core is counted."""


@dataclass(frozen=True)
class CloseGraph(Message[None]):
    """Close a session."""

    number: int
