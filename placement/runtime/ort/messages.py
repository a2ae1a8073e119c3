"""What workers of onnxruntime are told, besides what all workers are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from placement.runtime.pipelines.messages import PipelinePart
from placement.runtime.processes.messages import Exports, Message, ProgramPart, TensorType

#: The module that such a worker runs.
WORKER = "placement.runtime.ort.worker"


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
class ShareWeights(Message[None]):
    """Map weights and inputs; the file comes with the message."""

    size: int
    table: Mapping[str, tuple[int, TensorType]]
    """Offset and type by name."""


@dataclass(frozen=True)
class WholeRun:
    """Types of all outputs, values of some."""

    types: Mapping[str, TensorType]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RunWhole(Message[WholeRun]):
    """Run a model in one session, with nothing optimised away."""

    segment: Segment
    values: tuple[str, ...]
    """Outputs to hand over in full; of the others the types."""
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By name of the tensor, inputs other than those that all workers share."""


@dataclass(frozen=True)
class LoadSessions(Message[Exports]):
    """Make a device's sessions and buffers; the mailboxes' file comes with the message."""

    part: ProgramPart
    segments: Mapping[int, Segment]
    """By the position of the `Run` among the steps."""
    types: Mapping[str, TensorType]
    """Type and shape of all tensors that the steps read and make."""


@dataclass(frozen=True)
class LoadPipeline(Message[None]):
    """Make a device's sessions, and buffers for each step on the way; the mailboxes' file comes
    with the message.
    """

    part: PipelinePart
    segments: Mapping[int, Segment]
    """By the position of the `Run` among the pieces of a step."""
    types: Mapping[str, TensorType]
    """Type and shape of all tensors that the pieces read and make."""
    feeds: tuple[Mapping[str, np.ndarray], ...]
    """Inputs of the model that steps are given in turn."""
    right: tuple[Mapping[str, np.ndarray], ...]
    """For each of them the outputs that this device has to make."""
