"""What all workers are told and what they answer; plain data that pickles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from placement.runtime.programs.device_program import Step, Transfer

if TYPE_CHECKING:
    from torch import Tensor

Answer_co = TypeVar("Answer_co", covariant=True)


class Message(Generic[Answer_co]):
    """What a worker is told; the parameter is the type of what it answers."""


@dataclass(frozen=True)
class TensorType:
    """Element type (NumPy's name) and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class ProgramPart:
    """What any worker has to know of its device's part of a program in order to run it."""

    number: int
    """The program's number, by which later messages name it."""
    device: int
    steps: tuple[Step, ...]
    transfers: tuple[Transfer, ...]
    transfer_types: tuple[TensorType, ...]
    """Type and shape of each transfer's tensor."""
    device_count: int
    spin_seconds: float
    """How long to wait for a peer before giving the core away each time."""
    memory_bytes: int | None
    """What the program may allocate at most."""


@dataclass(frozen=True)
class Export:
    """A buffer and an event on a GPU that another process may open."""

    rebuild: "Callable[..., Tensor]"
    """Makes the tensor from `arguments` in another process."""
    arguments: tuple[object, ...]
    event: bytes
    """The handle of the event."""


#: By transfer, what a receiver hands to its sender besides the mailbox; nothing on cores.
Exports = Mapping[int, Export]


@dataclass(frozen=True)
class Connect(Message[None]):
    """Open what receivers export."""

    number: int
    exports: Exports


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
class Execute(Message[Executed]):
    """Run a loaded program several times."""

    number: int
    first_sequence: int
    """Number of the first step; no step of a program has another's."""
    iterations: int
    timeout_seconds: float
    hot: int = 0
    """Run each step of ops once untimed, then so often that the mean counts: caches are warm."""
    clear: bool = False
    """Whether to spoil all buffers first, so that nothing of an earlier step passes for new."""


@dataclass(frozen=True)
class Fetch(Message[Mapping[str, np.ndarray]]):
    """Hand over tensors of a loaded program by name, or figures that tell them from others."""

    number: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Unload(Message[None]):
    """Forget a program."""

    number: int


@dataclass(frozen=True)
class Failed:
    """The answer to anything that went wrong."""

    reason: str
    aborted: bool = False
    """Whether the worker only stopped because a peer did."""
