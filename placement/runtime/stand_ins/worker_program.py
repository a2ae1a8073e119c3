"""A device's part of a program of stand-ins: tensors live in a table by name."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.messages import Execute, Executed
from placement.runtime.processes.worker import RECEIVE, RUN, SEND, LoadedProgram
from placement.runtime.programs.device_program import Receive, Run, Send
from placement.runtime.stand_ins.kernels import Kernel, compiled_group, kernel
from placement.runtime.stand_ins.messages import Export, LoadStandIns
from placement.runtime.stand_ins.segments import TorchSegment, as_group, group_sizes


class Compiler:
    """Compiles fusion groups, equal ones once."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise
        self._made: dict[object, Kernel] = {}

    def group(self, segment: TorchSegment) -> tuple[Kernel, tuple[str, ...], tuple[str, ...]]:
        """The kernel of a fused run, with the names of its inputs and outputs."""
        group, inputs, outputs = as_group(segment)
        sizes = group_sizes(segment, inputs)
        key = (group, tuple(sizes))
        if key not in self._made:
            self._made[key] = compiled_group(group, self.noise, sizes)
        return self._made[key], inputs, outputs


class StandInProgram(LoadedProgram):
    """The part of a program that one device runs; tensors live in a table by name."""

    def __init__(self, load: LoadStandIns, descriptor: int, compiler: Compiler) -> None:
        self.values: dict[str, Tensor] = {}
        self.compiler = compiler
        self.noise = compiler.noise
        self.keep = False
        for name, size in load.given.items():
            self.values[name] = self.noise[:size].clone()
        self.given = frozenset(load.given)
        super().__init__(load, descriptor, None)

    def _prepared(
        self, position: int, step: object, make: object
    ) -> tuple[int, int, Callable[[], object]]:
        if isinstance(step, Run):
            return RUN, -1, self._run(self.load.segments[position])
        assert isinstance(step, Send | Receive)
        name = self.load.transfers[step.transfer].tensor
        slot = torch.from_numpy(self.mailboxes.tensors[step.transfer])
        if isinstance(step, Send):
            return SEND, step.transfer, partial(self._send, name, slot)
        return RECEIVE, step.transfer, partial(self._receive, name, slot)

    def _run(self, segment: TorchSegment) -> Callable[[], object]:
        steps: list[tuple[Kernel, tuple[str, ...], tuple[str, ...]]]
        if segment.fused:
            steps = [self.compiler.group(segment)]
        else:
            steps = [(kernel(op.spec, self.noise), op.reads, op.writes) for op in segment.ops]
        values = self.values
        drops = [name for name in segment.drops if name not in self.given]

        def run() -> None:
            for function, reads, writes in steps:
                found = function([values[name] for name in reads])
                values.update(zip(writes, found, strict=True))
            if not self.keep:
                for name in drops:
                    values.pop(name, None)

        return run

    def _send(self, name: str, slot: Tensor) -> None:
        slot.copy_(self.values[name])

    def _receive(self, name: str, slot: Tensor) -> None:
        self.values[name] = slot.to(self.noise.device, copy=True)

    def spoil(self) -> None:
        """Nothing of an earlier step is left, so that what is not made again is missed."""
        for name in [name for name in self.values if name not in self.given]:
            del self.values[name]
        for array in self.mailboxes.tensors:
            array.fill(np.nan)

    def execute(self, order: Execute) -> Executed:
        """As of any program; with repeats in place, tensors stay for the next one."""
        self.keep = order.hot > 0
        with torch.inference_mode():
            return super().execute(order)

    def exports(self) -> Mapping[int, Export]:
        """What senders need besides the mailboxes: nothing on cores."""
        return {}

    def connect(self, exports: Mapping[int, Export]) -> None:
        """Take what receivers export."""

    def digest(self, name: str) -> np.ndarray:
        """Four figures that tell one tensor from another."""
        value = self.values[name].double()
        parts = (value.sum(), value.abs().sum(), value[0], value[-1])
        return torch.stack(parts).cpu().numpy()

    def close(self) -> None:
        """Let go of the tensors, then of the shared memory."""
        self.values.clear()
        super().close()
