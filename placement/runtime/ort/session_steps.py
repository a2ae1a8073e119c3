"""What the steps of a program do with onnxruntime: sessions tied to buffers, and copies."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np

from placement.runtime.ort.messages import LoadSessions
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.processes.loaded_program import Action


class SessionSteps:
    """The `StepActions` of one device: each tensor that it reads or makes has a buffer."""

    def __init__(self, load: LoadSessions, make: SessionMaker) -> None:
        self.load = load
        self.make = make
        self.buffers: dict[str, np.ndarray] = {}
        self.own: dict[str, np.ndarray] = {}
        part = load.part
        self._received = {t.tensor for t in part.transfers if t.target == part.device}

    def run(self, position: int) -> Action:
        """A session for the ops of a run."""
        segment = self.load.segments[position]
        inputs = {name: self._buffer(tensor) for name, tensor in segment.inputs.items()}
        outputs = {name: self._buffer(tensor) for name, tensor in segment.outputs.items()}
        return self.make.bound(segment, inputs, outputs)

    def send(self, transfer: int, slot: np.ndarray) -> Action:
        """Copies the tensor into its mailbox."""
        return partial(np.copyto, slot, self._transferred(transfer))

    def receive(self, transfer: int, slot: np.ndarray) -> Action:
        """Copies the tensor out of its mailbox."""
        return partial(np.copyto, self._transferred(transfer), slot)

    def running(self, *, hot: bool) -> AbstractContextManager[None]:
        """Nothing is needed."""
        return nullcontext()

    def spoil(self) -> None:
        """Overwrite all buffers but those of what was given at the start."""
        for array in self.own.values():
            array.view(np.uint8 if array.ndim else array.dtype).fill(255 if array.ndim else 1)

    def close(self) -> None:
        """Let go of the buffers."""
        self.buffers.clear()
        self.own.clear()

    def _transferred(self, transfer: int) -> np.ndarray:
        return self._buffer(self.load.part.transfers[transfer].tensor).reshape(-1)

    def _buffer(self, name: str) -> np.ndarray:
        """The tensor's memory on this device; what was given at the start is shared."""
        if name not in self.buffers:
            shared = self.make.shared.arrays
            if name in shared and name not in self._received:
                self.buffers[name] = shared[name]
            else:
                kind = self.load.types[name]
                self.buffers[name] = self.own[name] = np.zeros(kind.shape, kind.dtype)
        return self.buffers[name]
