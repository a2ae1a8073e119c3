"""A worker process that runs one device's part of programs with onnxruntime.

    placement.runtime.ort.worker DESCRIPTOR CORE PARENT

It answers one message at a time on the socket that it inherits, and ends with its parent.
"""

import gc
import os
import sys
from collections.abc import Mapping

import numpy as np

from placement.runtime.ort.messages import (
    LoadPipeline,
    LoadSessions,
    RunWhole,
    ShareWeights,
    WholeRun,
)
from placement.runtime.ort.overlapping_steps import OverlappingSteps
from placement.runtime.ort.session_steps import SessionSteps
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.ort.shared_tensors import SharedTensors
from placement.runtime.pipelines.loaded_pipeline import LoadedPipeline
from placement.runtime.pipelines.messages import ExecutedSteps, ExecuteSteps
from placement.runtime.processes.loaded_program import LoadedProgram, limit_memory
from placement.runtime.processes.messages import Execute, Executed, Exports, Fetch, Unload
from placement.runtime.processes.worker_process import ReceiveFile, serve

Told = (
    ShareWeights | RunWhole | LoadSessions | LoadPipeline | Execute | ExecuteSteps | Fetch | Unload
)
Answered = WholeRun | Exports | Executed | ExecutedSteps | Mapping[str, np.ndarray] | None


class OrtWorker:
    """What a worker holds between messages."""

    def __init__(self) -> None:
        self.make = SessionMaker(SharedTensors())
        self.programs: dict[int, LoadedProgram[SessionSteps]] = {}
        self.pipelines: dict[int, LoadedPipeline[OverlappingSteps]] = {}

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
            case LoadPipeline():
                self._load_pipeline(message, receive_file())
                return None
            case Execute():
                return self.programs[message.number].execute(message)
            case ExecuteSteps():
                return self.pipelines[message.number].execute(message)
            case Fetch():
                buffers = self.programs[message.number].actions.buffers
                return {name: buffers[name].copy() for name in message.names}
            case Unload():
                if message.number in self.programs:
                    self.programs.pop(message.number).close()
                if message.number in self.pipelines:
                    self.pipelines.pop(message.number).close()
                if not (self.programs or self.pipelines):
                    self.make.forget()
                limit_memory(None)
                return None
        raise TypeError(f"a worker of onnxruntime knows no {type(message).__name__}")

    def _load_pipeline(self, message: LoadPipeline, descriptor: int) -> None:
        """Make a pipeline ready; the descriptor is closed."""
        part = message.part.part
        try:
            steps = OverlappingSteps(message, self.make)
            limit_memory(part.memory_bytes)
            self.pipelines[part.number] = LoadedPipeline(message.part, descriptor, steps)
        finally:
            os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Answer messages until the parent closes the socket."""
    gc.disable()
    serve(arguments, OrtWorker().answer)


if __name__ == "__main__":
    main(sys.argv[1:])
