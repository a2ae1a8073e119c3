"""What the steps of a program of stand-ins do on a core: tensors are copied through mailboxes."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.loaded_program import Action, StepActions
from placement.runtime.processes.messages import Exports
from placement.runtime.stand_ins.tensor_table import TensorTable


@runtime_checkable
class StandInSteps(StepActions, Protocol):
    """The steps' actions on any device that stand-ins run on."""

    @property
    def table(self) -> TensorTable:
        """The device's tensors."""
        ...

    def exports(self) -> Exports:
        """What senders need besides the mailboxes."""
        ...

    def connect(self, exports: Exports) -> None:
        """Take what receivers export."""
        ...


class CoreSteps:
    """The steps' actions on a core."""

    def __init__(self, table: TensorTable) -> None:
        self.table = table

    def run(self, position: int) -> Action:
        """The stand-ins of a run."""
        return self.table.run(position)

    def send(self, transfer: int, slot: np.ndarray) -> Action:
        """Copies the tensor into its mailbox."""
        return partial(self._send, self.table.sent(transfer), torch.from_numpy(slot))

    def receive(self, transfer: int, slot: np.ndarray) -> Action:
        """Copies the tensor out of its mailbox."""
        return partial(self._receive, self.table.sent(transfer), torch.from_numpy(slot))

    def running(self, *, hot: bool) -> AbstractContextManager[None]:
        """As the table says."""
        return self.table.running(hot=hot)

    def spoil(self) -> None:
        """Nothing of an earlier step is left."""
        self.table.spoil()

    def close(self) -> None:
        """Let go of the tensors."""
        self.table.values.clear()

    def exports(self) -> Exports:
        """Nothing: mailboxes are all that senders need."""
        return {}

    def connect(self, exports: Exports) -> None:
        """Nothing to take."""

    def _send(self, name: str, slot: Tensor) -> None:
        slot.copy_(self.table.values[name])

    def _receive(self, name: str, slot: Tensor) -> None:
        self.table.values[name] = slot.to(self.table.noise.device, copy=True)
