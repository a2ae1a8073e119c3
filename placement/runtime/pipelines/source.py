"""What a source of device programs needs besides, for its steps to overlap."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Protocol, runtime_checkable

from placement.runtime.pipelines.messages import PipelinePart
from placement.runtime.processes.messages import Message
from placement.runtime.programs.device_program import DeviceProgram
from simulator.steps import StepSchedule

#: Inputs and outputs of more steps than that are not held.
_MOST_FEEDS = 8


@runtime_checkable
class PipelineSource(Protocol):
    """Says what workers need to run overlapping steps of a program."""

    def load_pipeline(
        self, program: DeviceProgram, parts: Sequence[PipelinePart]
    ) -> Mapping[int, Message[None]]:
        """By device, what makes its worker ready for its part of all steps.

        Raises:
            RuntimeRefusal: the model itself cannot run here.
        """
        ...

    def is_comparable(self, schedule: StepSchedule) -> bool:
        """Whether the original's outputs are such that others can be told from them."""
        ...

    @property
    def state(self) -> Sequence[tuple[str, str]]:
        """Inputs of the model that are outputs of the step before, with these outputs."""
        ...


def feed_count(schedule: StepSchedule) -> int:
    """How many different inputs steps are given in turn.

    So many that neither two steps on the way at once (up to eight) have the same, nor a step and
    the one whose buffers it takes over.

    Example:
        >>> [feed_count(StepSchedule(100, in_flight)) for in_flight in (1, 2, 3, 8)]
        [2, 3, 4, 9]
    """
    slots = schedule.most_in_flight
    fewest = min(slots + 1, _MOST_FEEDS)
    return next(number for number in count(fewest) if slots % number)
