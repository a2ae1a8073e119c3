"""onnxruntime sessions in a worker: one thread, shared weights, fixed buffers."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from placement.runtime.ort.messages import RunWhole, Segment, WholeRun
from placement.runtime.ort.shared_tensors import SharedTensors
from placement.runtime.processes.loaded_program import Action
from placement.runtime.processes.messages import TensorType

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class SessionMaker:
    """Makes sessions that share the weights."""

    def __init__(self, shared: SharedTensors) -> None:
        self.shared = shared
        self._sessions: dict[tuple[bytes, bool], InferenceSession] = {}

    def forget(self) -> None:
        """Let go of all sessions that no program holds."""
        self._sessions.clear()

    def bound(
        self,
        segment: Segment,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> Action:
        """A session with its inputs and outputs tied to buffers; calling it runs it.

        Segments of equal bytes share a session.
        """
        key = (segment.model, segment.fused)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = self._session(segment)
        binding = session.io_binding()
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        return partial(session.run_with_iobinding, binding)

    def whole(self, message: RunWhole) -> WholeRun:
        """Run once from the shared inputs, or from those that the message brings."""
        session = self._session(message.segment)
        inputs, outputs = message.segment.inputs, message.segment.outputs
        arrays = {**self.shared.arrays, **message.feeds}
        feeds = {name: arrays[tensor] for name, tensor in inputs.items()}
        results = session.run(list(outputs), feeds)
        arrays = dict(zip(outputs.values(), results, strict=True))
        strange = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        strange += [n for n, a in arrays.items() if n not in strange and a.dtype.kind not in "fiub"]
        if strange:
            raise TypeError(f"tensor {strange[0]!r} is a sequence or text and cannot be moved")
        return WholeRun(
            {name: TensorType(array.dtype.name, array.shape) for name, array in arrays.items()},
            {name: arrays[name] for name in message.values},
        )

    def _session(self, segment: Segment) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # The plan says what is fused: inside a group onnxruntime may do what it can short of
        # changing layouts, everywhere else ops run one by one.
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_EXTENDED if segment.fused else levels.ORT_DISABLE_ALL
        )
        if segment.weights:
            values = [
                onnxruntime.OrtValue.ortvalue_from_numpy(self.shared.arrays[name])
                for name in segment.weights
            ]
            options.add_external_initializers(list(segment.weights), values)
        return onnxruntime.InferenceSession(
            segment.model, options, providers=["CPUExecutionProvider"]
        )
