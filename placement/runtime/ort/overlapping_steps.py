"""What the pieces of overlapping steps do with onnxruntime: sessions tied to buffers, and copies.

All steps share the sessions, and with them the weights. Each step on the way has buffers of its own
for what it makes; step `s` takes over those of step `s - in_flight`. Inputs are read where they
lie. Outputs of the model stay until all steps have run, so that each can be looked at.
"""

from functools import partial

import numpy as np

from placement.runtime.ort.messages import LoadPipeline
from placement.runtime.ort.sessions import SessionMaker
from placement.runtime.processes.loaded_program import Action
from placement.runtime.programs.difference import difference

#: A tensor by name, and which of its buffers.
_Place = tuple[str, int]


class OverlappingSteps:
    """The `PipelineActions` of one device.

    What is there for checks only (inputs, outputs of all steps) is allocated here; what each step
    on the way needs is allocated as the pieces are made, and counts against the device's memory.
    """

    def __init__(self, load: LoadPipeline, make: SessionMaker) -> None:
        self.load = load
        self.make = make
        inner, schedule = load.part.part, load.part.schedule
        self._slots = schedule.most_in_flight
        self._received = {t.tensor for t in inner.transfers if t.target == inner.device}
        self.buffers: dict[_Place, np.ndarray] = {}
        self.kept: dict[_Place, np.ndarray] = {
            (name, step): np.zeros(array.shape, array.dtype)
            for name, array in load.right[0].items()
            for step in range(schedule.steps)
        }
        self._actions: dict[tuple[int, tuple[_Place, ...]], Action] = {}

    def run(self, position: int, step: int) -> Action:
        """A session for the ops of a run; steps that use the same buffers share its bindings."""
        segment = self.load.segments[position]
        named = (*segment.inputs.values(), *segment.outputs.values())
        key = position, tuple(self._place(tensor, step) for tensor in named)
        if key not in self._actions:
            inputs = {name: self._buffer(tensor, step) for name, tensor in segment.inputs.items()}
            outputs = {name: self._buffer(tensor, step) for name, tensor in segment.outputs.items()}
            self._actions[key] = self.make.bound(segment, inputs, outputs)
        return self._actions[key]

    def send(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        """Copies a step's tensor into its mailbox."""
        return partial(np.copyto, slot, self._transferred(transfer, step))

    def receive(self, transfer: int, slot: np.ndarray, step: int) -> Action:
        """Copies a step's tensor out of its mailbox."""
        return partial(np.copyto, self._transferred(transfer, step), slot)

    def spoil(self, *, everything: bool) -> None:
        """Overwrite the outputs of all steps, or all buffers."""
        for array in (*self.kept.values(), *(self.buffers.values() if everything else ())):
            array.view(np.uint8 if array.ndim else array.dtype).fill(255 if array.ndim else 1)

    def wrong(self) -> str | None:
        """Which output of which step is not the original's."""
        right = self.load.right
        for (name, step), found in self.kept.items():
            wanted = right[step % len(right)][name]
            reason = difference(found, wanted)
            if reason is not None:
                others = (feed[name] for feed in right if feed[name] is not wanted)
                if any(difference(found, other) is None for other in others):
                    reason = "it is that of another step"
                return f"output {name!r} of step {step + 1} is not the original's: {reason}"
        return None

    def close(self) -> None:
        """Let go of the buffers."""
        self._actions.clear()
        self.buffers.clear()
        self.kept.clear()

    def _transferred(self, transfer: int, step: int) -> np.ndarray:
        return self._buffer(self.load.part.part.transfers[transfer].tensor, step).reshape(-1)

    def _place(self, name: str, step: int) -> _Place:
        """Which buffer a step uses for a tensor: its own, its input's, or that of its turn."""
        if (name, step) in self.kept:
            return name, step
        if name in self.load.feeds[0] and name not in self._received:
            return name, step % len(self.load.feeds)
        return name, step % self._slots

    def _buffer(self, name: str, step: int) -> np.ndarray:
        place = self._place(name, step)
        if place in self.kept:
            return self.kept[place]
        if name not in self._received:
            if name in self.load.feeds[0]:
                return self.load.feeds[place[1]][name]
            if name in self.make.shared.arrays:
                return self.make.shared.arrays[name]
        if place not in self.buffers:
            kind = self.load.types[name]
            self.buffers[place] = np.zeros(kind.shape, kind.dtype)
        return self.buffers[place]
