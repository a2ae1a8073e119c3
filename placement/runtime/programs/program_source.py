"""What tells one runtime of device programs from another: what its programs are made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from placement.runtime.processes.messages import Exports, Message, ProgramPart, TensorType
from placement.runtime.programs.device_program import DeviceProgram
from simulator.evaluation import Evaluator
from simulator.plan import Plan
from simulator.simulator import Simulator

#: Runs a program once and fetches tensors by name, as they are on the first device.
RunOnce = Callable[[DeviceProgram, Sequence[str]], Mapping[str, np.ndarray]]


@runtime_checkable
class ProgramSource(Protocol):
    """Cuts plans of one graph into programs, and says what workers need to run them."""

    @property
    def kind(self) -> str:
        """The runtime's name."""
        ...

    def program(self, simulator: Simulator, plan: Plan, *, single_ops: bool) -> DeviceProgram:
        """The steps that each device runs for a plan.

        Args:
            simulator: of the graph on the cluster, by which the order is found.
            plan: any plan.
            single_ops: whether every op is a step of its own.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the graph cannot run here.
        """
        ...

    def transfer_types(self, program: DeviceProgram) -> tuple[TensorType, ...]:
        """Type and shape of each transfer's tensor."""
        ...

    def load_messages(
        self, program: DeviceProgram, parts: Sequence[ProgramPart]
    ) -> Mapping[int, Message[Exports]]:
        """By device, what makes its worker ready for its part of a program."""
        ...

    def right_outputs(self, simulator: Simulator, run_once: RunOnce) -> Mapping[str, np.ndarray]:
        """What a step has to give, by name of the tensor.

        Raises:
            RuntimeRefusal: the graph cannot run here.
        """
        ...

    def writes(self, op: int) -> Sequence[str]:
        """Tensors that an op makes."""
        ...

    def predictor(self, simulator: Simulator) -> Evaluator:
        """What says beforehand how long a step takes."""
        ...
