"""What is asked for where steps overlap: how many at once, and how tensors travel."""

from dataclasses import dataclass
from enum import StrEnum

from graphs.errors import GraphwrightError


class Transfers(StrEnum):
    """What a tensor that crosses between devices keeps busy."""

    CHANNELS = "channels"
    """The channels of its link, beside compute: the machine that the simulator runs."""
    HOPS = "hops"
    """The two devices themselves, on its way through the host's memory: a split ONNX model, and
    the "maximum load" of Tarnawski et al. (NeurIPS 2020)."""


@dataclass(frozen=True)
class Throughput:
    """A request for a plan of the shortest period.

    Raises:
        GraphwrightError: fewer than one step in flight or micro-batch.
    """

    in_flight: int | None = None
    """Most steps on the way at once. None: twice the devices that are used, or what fits; of
    micro-batches all of them, or what fits."""
    micro_batches: int = 1
    """The graph is one of so many parts of a training step: forward and backward run for each of
    them, updates once."""
    transfers: Transfers = Transfers.CHANNELS
    contiguous: bool = False
    """One stage for each device, in the order of the forward pass: what most pipelines can run."""

    def __post_init__(self) -> None:
        if self.in_flight is not None and self.in_flight < 1:
            raise GraphwrightError(
                f"{self.in_flight} steps in flight: at least one must be on the way"
            )
        if self.micro_batches < 1:
            raise GraphwrightError(f"{self.micro_batches} micro-batches: at least one, please")
