"""The tensors of one device in a table by name, and the runs of stand-ins that work on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.loaded_program import Action
from placement.runtime.stand_ins.kernels import Kernel, compiled_group, kernel
from placement.runtime.stand_ins.messages import LoadStandIns
from placement.runtime.stand_ins.segments import Group, TorchSegment, as_group, group_sizes


class Compiler:
    """Compiles fusion groups, equal ones once."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise
        self._made: dict[tuple[Group, tuple[int, ...]], Kernel] = {}

    def group(self, segment: TorchSegment) -> tuple[Kernel, tuple[str, ...], tuple[str, ...]]:
        """The kernel of a fused run, with the names of its inputs and outputs."""
        group, inputs, outputs = as_group(segment)
        sizes = group_sizes(segment, inputs)
        key = (group, tuple(sizes))
        if key not in self._made:
            self._made[key] = compiled_group(group, self.noise, sizes)
        return self._made[key], inputs, outputs


class TensorTable:
    """What a device holds during a step; what was given stays from one step to the next."""

    def __init__(self, load: LoadStandIns, compiler: Compiler) -> None:
        self.load = load
        self.compiler = compiler
        self.noise = compiler.noise
        self.keep = False
        self.values = {name: self.noise[:size].clone() for name, size in load.given.items()}

    def sent(self, transfer: int) -> str:
        """The name of a transfer's tensor."""
        return self.load.part.transfers[transfer].tensor

    def run(self, position: int) -> Action:
        """Runs the stand-ins of a run, and lets go of what nothing needs afterwards."""
        segment = self.load.segments[position]
        steps: list[tuple[Kernel, tuple[str, ...], tuple[str, ...]]]
        if segment.fused:
            steps = [self.compiler.group(segment)]
        else:
            steps = [(kernel(op.spec, self.noise), op.reads, op.writes) for op in segment.ops]
        values = self.values
        drops = [name for name in segment.drops if name not in self.load.given]

        def run() -> None:
            for function, reads, writes in steps:
                outputs = function([values[name] for name in reads])
                values.update(zip(writes, outputs, strict=True))
            if not self.keep:
                for name in drops:
                    values.pop(name, None)

        return run

    @contextmanager
    def running(self, *, hot: bool) -> Iterator[None]:
        """Without gradients; where runs are repeated in place, tensors stay for the next one."""
        self.keep = hot
        with torch.inference_mode():
            yield

    def spoil(self) -> None:
        """Nothing of an earlier step is left, so that what is not made again is missed."""
        for name in [name for name in self.values if name not in self.load.given]:
            del self.values[name]

    def digest(self, name: str) -> np.ndarray:
        """Four figures that tell one tensor from another."""
        value = self.values[name].double()
        parts = (value.sum(), value.abs().sum(), value[0], value[-1])
        return torch.stack(parts).cpu().numpy()
