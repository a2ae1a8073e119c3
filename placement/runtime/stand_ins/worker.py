"""A worker process that runs stand-ins with torch, on a core or on a GPU.

python -m placement.runtime.stand_ins.worker DESCRIPTOR CORE PARENT
"""

import gc
import os
import sys
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from placement.runtime.processes.loaded_program import LoadedProgram, limit_memory
from placement.runtime.processes.messages import (
    Connect,
    Execute,
    Executed,
    Exports,
    Fetch,
    Unload,
)
from placement.runtime.processes.worker_process import ReceiveFile, serve
from placement.runtime.stand_ins.core_steps import CoreSteps, StandInSteps
from placement.runtime.stand_ins.gpu import GpuSteps
from placement.runtime.stand_ins.messages import LoadStandIns, UseDevice
from placement.runtime.stand_ins.tensor_table import Compiler, TensorTable

Told = UseDevice | LoadStandIns | Connect | Execute | Fetch | Unload
Answered = Exports | Executed | Mapping[str, np.ndarray] | None


class TorchWorker:
    """What a worker holds between messages."""

    def __init__(self) -> None:
        self.compiler: Compiler | None = None
        self.programs: dict[int, LoadedProgram[StandInSteps]] = {}

    def answer(self, message: Told, receive_file: ReceiveFile) -> Answered:
        """Do what a message asks for."""
        match message:
            case UseDevice():
                if message.device.startswith("cuda"):
                    torch.cuda.set_device(message.device)
                self.compiler = Compiler(_noise(message))
                return None
            case LoadStandIns():
                return self._load(message, receive_file())
            case Connect():
                self.programs[message.number].actions.connect(message.exports)
                return None
            case Execute():
                return self.programs[message.number].execute(message)
            case Fetch():
                table = self.programs[message.number].actions.table
                return {name: table.digest(name) for name in message.names}
            case Unload():
                loaded = self.programs.pop(message.number, None)
                if loaded is not None:
                    loaded.close()
                limit_memory(None)
                return None
        raise TypeError(f"a worker of stand-ins knows no {type(message).__name__}")

    def _load(self, message: LoadStandIns, descriptor: int) -> Exports:
        """Make a program ready; the descriptor is closed."""
        assert self.compiler is not None
        part = message.part
        loaded: LoadedProgram[StandInSteps]
        try:
            limit_memory(part.memory_bytes)
            table = TensorTable(message, self.compiler)
            if self.compiler.noise.device.type == "cuda":
                gpu = GpuSteps(table)
                loaded = LoadedProgram(part, descriptor, gpu, gpu.timed_pass)
            else:
                loaded = LoadedProgram(part, descriptor, CoreSteps(table))
        finally:
            os.close(descriptor)
        self.programs[part.number] = loaded
        return loaded.actions.exports()


def _noise(message: UseDevice) -> Tensor:
    """The same numbers on every device: drawn on the CPU."""
    generator = torch.Generator().manual_seed(message.seed)
    values = torch.rand(message.constants, generator=generator).mul_(2).sub_(1)
    return values.to(message.device)


def main(arguments: list[str]) -> None:
    """Answer messages until the parent closes the socket."""
    gc.disable()
    torch.set_num_threads(1)
    serve(arguments, TorchWorker().answer)


if __name__ == "__main__":
    main(sys.argv[1:])
