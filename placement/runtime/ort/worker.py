"""A worker process that runs one device's part of programs with onnxruntime.

    python -m placement.runtime.ort.worker DESCRIPTOR CORE PARENT

It answers one message at a time on the socket that it inherits, and ends with its parent.
"""

import gc
import os
import sys
from collections.abc import Mapping

import numpy as np

from placement.runtime.ort.messages import LoadSessions, RunWhole, ShareWeights, WholeRun
from placement.runtime.ort.session_steps import SessionSteps
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.ort.shared_tensors import SharedTensors
from placement.runtime.processes.loaded_program import LoadedProgram, limit_memory
from placement.runtime.processes.messages import Execute, Executed, Exports, Fetch, Unload
from placement.runtime.processes.worker_process import ReceiveFile, serve

Told = ShareWeights | RunWhole | LoadSessions | Execute | Fetch | Unload
Answered = WholeRun | Exports | Executed | Mapping[str, np.ndarray] | None


class OrtWorker:
    """What a worker holds between messages."""

    def __init__(self) -> None:
        self.make = SessionMaker(SharedTensors())
        self.programs: dict[int, LoadedProgram[SessionSteps]] = {}

    def answer(self, message: Told, receive_file: ReceiveFile) -> Answered:
        """Do what a message asks for."""
        match message:
            case ShareWeights():
                self.make = SessionMaker(SharedTensors.mapped(receive_file(), message))
                return None
            case RunWhole():
                return self.make.whole(message)
            case LoadSessions():
                descriptor = receive_file()
                try:
                    limit_memory(message.part.memory_bytes)
                    steps = SessionSteps(message, self.make)
                    loaded = LoadedProgram(message.part, descriptor, steps)
                finally:
                    os.close(descriptor)
                self.programs[message.part.number] = loaded
                return {}
            case Execute():
                return self.programs[message.number].execute(message)
            case Fetch():
                buffers = self.programs[message.number].actions.buffers
                return {name: buffers[name].copy() for name in message.names}
            case Unload():
                program = self.programs.pop(message.number, None)
                if program is not None:
                    program.close()
                if not self.programs:
                    self.make.forget()
                limit_memory(None)
                return None
        raise TypeError(f"a worker of onnxruntime knows no {type(message).__name__}")


def main(arguments: list[str]) -> None:
    """Answer messages until the parent closes the socket."""
    gc.disable()
    serve(arguments, OrtWorker().answer)


if __name__ == "__main__":
    main(sys.argv[1:])
