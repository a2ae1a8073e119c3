"""A worker process that runs stand-ins with torch, on a core or on a GPU.

python -m placement.runtime.stand_ins.worker DESCRIPTOR CORE PARENT
"""

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from placement.runtime.processes.messages import Execute, Fetch, Unload
from placement.runtime.processes.worker import limit_memory
from placement.runtime.processes.worker_process import serve
from placement.runtime.stand_ins.gpu import GpuProgram
from placement.runtime.stand_ins.messages import Connect, LoadStandIns, UseDevice
from placement.runtime.stand_ins.worker_program import Compiler, StandInProgram


class TorchWorker:
    """What a worker holds between messages."""

    def __init__(self) -> None:
        self.compiler: Compiler | None = None
        self.programs: dict[int, StandInProgram] = {}

    def answer(self, message: object, receive_file: Callable[[], int]) -> Any:
        """Do what a message asks for."""
        match message:
            case UseDevice():
                if message.device.startswith("cuda"):
                    torch.cuda.set_device(message.device)
                self.compiler = Compiler(_noise(message))
                return None
            case LoadStandIns():
                descriptor = receive_file()
                assert self.compiler is not None
                try:
                    limit_memory(message.memory_bytes)
                    on_gpu = self.compiler.noise.device.type == "cuda"
                    kind = GpuProgram if on_gpu else StandInProgram
                    loaded = kind(message, descriptor, self.compiler)
                finally:
                    os.close(descriptor)
                self.programs[message.number] = loaded
                return loaded.exports()
            case Connect():
                self.programs[message.number].connect(message.exports)
                return None
            case Execute():
                return self.programs[message.number].execute(message)
            case Fetch():
                program = self.programs[message.number]
                return {name: program.digest(name) for name in message.names}
            case Unload():
                loaded_before = self.programs.pop(message.number, None)
                if loaded_before is not None:
                    loaded_before.close()
                limit_memory(None)
                return None
        raise TypeError(f"a worker of stand-ins knows no {type(message).__name__}")


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
