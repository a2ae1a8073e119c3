"""What a worker of stand-ins is told, besides what all workers are told."""

from collections.abc import Mapping
from dataclasses import dataclass

from placement.runtime.processes.messages import Exports, Message, ProgramPart
from placement.runtime.stand_ins.segments import TorchSegment

#: The module that such a worker runs.
WORKER = "placement.runtime.stand_ins.worker"


@dataclass(frozen=True)
class UseDevice(Message[None]):
    """Draw the random numbers that kernels read, and keep them on a device."""

    device: str
    """Torch's name, such as cpu or cuda:1."""
    constants: int
    """How many."""
    seed: int


@dataclass(frozen=True)
class LoadStandIns(Message[Exports]):
    """Make a device's kernels; the mailboxes' file comes with the message."""

    part: ProgramPart
    segments: Mapping[int, TorchSegment]
    """By the position of the `Run` among the steps."""
    given: Mapping[str, int]
    """Elements of tensors that are on the device before the step."""
