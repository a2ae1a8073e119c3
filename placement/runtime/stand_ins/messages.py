"""What a worker of stand-ins is told, besides what all workers are told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from placement.runtime.processes.messages import TensorType
from placement.runtime.programs.device_program import Step, Transfer
from placement.runtime.stand_ins.segments import TorchSegment


@dataclass(frozen=True)
class UseDevice:
    """Draw the random numbers that kernels read, and keep them on a device. Answer: None."""

    device: str
    """Torch's name, such as cpu or cuda:1."""
    constants: int
    """How many."""
    seed: int


@dataclass(frozen=True)
class Export:
    """A buffer and an event on a GPU that another process may open."""

    buffer: tuple[Callable[..., Any], tuple[Any, ...]]
    """A function that makes the tensor, and its arguments."""
    event: bytes


@dataclass(frozen=True)
class Connect:
    """Open what receivers export, by transfer. Answer: None."""

    number: int
    exports: Mapping[int, Export]


@dataclass(frozen=True)
class LoadStandIns:
    """Make a device's kernels; the mailboxes' file comes with it.

    Answer: an `Export` for each transfer that it receives, on GPUs; nothing on cores.
    """

    number: int
    device: int
    steps: tuple[Step, ...]
    segments: Mapping[int, TorchSegment]
    """By the position of the `Run` among the steps."""
    transfers: tuple[Transfer, ...]
    types: Mapping[str, TensorType]
    """Type and shape of each tensor that is sent."""
    given: Mapping[str, int]
    """Elements of tensors that are on the device before the step."""
    device_count: int
    spin_seconds: float
    memory_bytes: int | None
    """What the program may allocate at most."""
