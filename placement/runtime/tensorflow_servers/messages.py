"""What TensorFlow workers are told and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FindPort:
    """Answer: a port of the loopback interface that is free now."""


@dataclass(frozen=True)
class StartServer:
    """Become a device: a server with one task of the job `worker`. Answer: None."""

    addresses: tuple[str, ...]
    task: int


@dataclass(frozen=True)
class OpenGraph:
    """Open a session, give every variable its value. Answer: None."""

    number: int
    address: str
    graph: bytes
    """A GraphDef with a device for each node."""
    fetches: tuple[str, ...]
    """Ops to run; of those that have a plain number as first output, the value is fetched."""
    seed: int


@dataclass(frozen=True)
class TraceGraph:
    """Run one step and tell what ran where. Answer: `TracedStep`."""

    number: int
    timeout_seconds: float


@dataclass(frozen=True, eq=False)
class TracedStep:
    """Step statistics and results of one step."""

    devices: Mapping[str, str]
    """The device of each node that ran; empty for constants that ran wherever they were read."""
    seconds: Mapping[str, float]
    """Wall time of each."""
    results: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RunGraph:
    """Run steps. Answer: `RanGraph`."""

    number: int
    iterations: int
    timeout_seconds: float
    servers: tuple[int, ...]
    """Processes whose waiting for a core is counted."""


@dataclass(frozen=True, eq=False)
class RanGraph:
    """Seconds of each step, and the longest that a server waited for its core meanwhile."""

    wall: np.ndarray
    delay: np.ndarray


@dataclass(frozen=True)
class CloseGraph:
    """Close a session. Answer: None."""

    number: int
