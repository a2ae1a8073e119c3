"""What a worker is told and what it answers; plain data that pickles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from placement.runtime.programs.device_program import Step, Transfer


@dataclass(frozen=True)
class TensorType:
    """Element type (NumPy's name) and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Segment:
    """One onnxruntime session: ops of a `Run`, and the tensors that cross its border."""

    model: bytes
    weights: tuple[str, ...]
    """External weights that the session shares with all others."""
    inputs: Mapping[str, str]
    """The tensor of the whole model behind each input of the session."""
    outputs: Mapping[str, str]
    fused: bool = False
    """Whether onnxruntime may fuse the ops and drop what is between them."""


@dataclass(frozen=True)
class ShareWeights:
    """Map weights and inputs; the file comes with the message. Answer: None."""

    size: int
    table: Mapping[str, tuple[int, TensorType]]
    """Offset and type by name."""


@dataclass(frozen=True)
class RunWhole:
    """Run a model in one session, with nothing optimised away. Answer: `WholeRun`."""

    segment: Segment
    values: tuple[str, ...]
    """Outputs to hand over in full; of the others the types."""


@dataclass(frozen=True)
class WholeRun:
    """Types of all outputs, values of some."""

    types: Mapping[str, TensorType]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LoadProgram:
    """Make a device's sessions and buffers; the mailboxes' file comes with it. Answer: None."""

    number: int
    device: int
    steps: tuple[Step, ...]
    segments: Mapping[int, Segment]
    """By the position of the `Run` among the steps."""
    transfers: tuple[Transfer, ...]
    types: Mapping[str, TensorType]
    device_count: int
    spin_seconds: float
    """How long to wait for a peer before giving the core away each time."""
    memory_bytes: int | None
    """What the program may allocate at most."""


@dataclass(frozen=True)
class Execute:
    """Run a loaded program several times. Answer: `Executed`."""

    number: int
    first_sequence: int
    """Number of the first step; no step of a program has another's."""
    iterations: int
    timeout_seconds: float
    hot: int = 0
    """Run each step of ops once untimed, then so often that the mean counts: caches are warm."""
    clear: bool = False
    """Whether to spoil all buffers first, so that nothing of an earlier step passes for new."""


@dataclass(frozen=True, eq=False)
class Executed:
    """Times of a device, in nanoseconds, a row per iteration."""

    wall_begin: np.ndarray
    wall_end: np.ndarray
    delay: np.ndarray
    """Time that the worker was ready to run and waited for its core."""
    virtual_end: np.ndarray
    step_cpu: np.ndarray
    """iterations x steps: CPU time of each, waiting for messages left out."""
    step_begin: np.ndarray
    """iterations x steps: when each began, on the virtual clock."""


@dataclass(frozen=True)
class Fetch:
    """Hand over tensors of a loaded program. Answer: name to array."""

    number: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Unload:
    """Forget a program. Answer: None."""

    number: int


@dataclass(frozen=True)
class Failed:
    """The answer to anything that went wrong."""

    reason: str
    aborted: bool = False
    """Whether the worker only stopped because a peer did."""
