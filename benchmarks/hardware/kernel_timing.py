"""How long a kernel takes on the core that this process is pinned to, or on a GPU.

A kernel is an onnxruntime session of one op, or of a group that onnxruntime may fuse. It is run
in place again and again, so that its data are in the cache as far as they fit, and the time of an
empty call with as many tensors is taken off.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from placement.runtime.ort.messages import Segment

_CPU = "CPUExecutionProvider"
_BATCH_SECONDS = 150e-6
_BATCHES = 14
_FEWEST_BATCHES = 4
#: After it no further batches of a kernel are begun.
_KERNEL_SECONDS = 0.04
#: Of the batches of a kernel the time that so many undercut: what disturbs only ever adds.
_QUANTILE = 0.15
_LINE_BYTES, _PAGE_BYTES = 64, 4096


@dataclass(frozen=True)
class Timing:
    """One kernel, measured."""

    seconds: float
    """Without the call around it."""
    call_seconds: float
    """With it."""


@dataclass
class KernelClock:
    """Times sessions in this process; CPU time of the thread, wall time where a GPU computes."""

    provider: str = _CPU
    call: tuple[float, float] = (0.0, 0.0)
    """Seconds of an empty call: constant, and for each tensor that is bound."""
    _now: Callable[[], int] = field(init=False)

    def __post_init__(self) -> None:
        cpu = self.provider == _CPU
        self._now = time.thread_time_ns if cpu else time.perf_counter_ns
        self.call = self._empty_call()

    def session(
        self,
        segment: Segment,
        weights: Mapping[str, np.ndarray],
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> Callable[[], object]:
        """Something to call that runs the segment once, everything bound where it computes."""
        session = _session(segment, weights, self.provider)
        binding = session.io_binding()
        if self.provider == _CPU:
            for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for name, array in arrays.items():
                    bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
            return partial(session.run_with_iobinding, binding)
        import onnxruntime

        for name, array in inputs.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, "cuda", 0)

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def time(self, run: Callable[[], object], tensors: int) -> Timing:
        """Run it until its time is known."""
        taken = self._call_seconds(run)
        constant, each = self.call
        return Timing(max(taken - constant - each * tensors, 1e-8), taken)

    def _call_seconds(self, run: Callable[[], object]) -> float:
        run()
        first = self._batch(run, 1)
        runs = int(np.clip(_BATCH_SECONDS / max(first, 1e-7), 1, 100))
        began, found = time.perf_counter(), []
        while len(found) < _BATCHES and (
            len(found) < (_FEWEST_BATCHES if first < _KERNEL_SECONDS else 2)
            or time.perf_counter() - began < _KERNEL_SECONDS
        ):
            found.append(self._batch(run, runs))
        return float(np.quantile(found, _QUANTILE))

    def _batch(self, run: Callable[[], object], runs: int) -> float:
        begin = self._now()
        for _ in range(runs):
            run()
        return (self._now() - begin) / runs * 1e-9

    def _empty_call(self) -> tuple[float, float]:
        """Least squares over calls that do next to nothing with one to eight tensors."""
        rows, seconds = [], []
        for count in (1, 2, 4, 7):
            names = [f"x{index}" for index in range(count)]
            value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in names]
            out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [count])
            node = helper.make_node("Concat", names, ["y"], "op", axis=0)
            graph = helper.make_graph([node], "empty", value, [out])
            model = helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
            )
            arrays = {name: np.ones(1, np.float32) for name in names}
            segment = _segment(model, names, ["y"])
            run = self.session(segment, {}, arrays, {"y": np.zeros(count, np.float32)})
            rows.append((1.0, count + 1.0))
            seconds.append(min(self._call_seconds(run) for _ in range(3)))
        constant, each = np.linalg.lstsq(np.array(rows), np.array(seconds), rcond=None)[0]
        return float(constant), max(float(each), 0.0)


def placed(like: np.ndarray, position: int) -> np.ndarray:
    """A copy that begins on a cache line, as buffers inside of a session do, and not at the same
    place of a page as the kernel's other tensors; chance would decide about a tenth of the time."""
    offset = _LINE_BYTES * (1 + 17 * position) % _PAGE_BYTES
    memory = np.empty(like.nbytes + offset + _PAGE_BYTES, np.uint8)
    begin = -memory.ctypes.data % _PAGE_BYTES + offset
    copy = memory[begin : begin + like.nbytes].view(like.dtype).reshape(like.shape)
    np.copyto(copy, like)
    return copy


def _segment(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> Segment:
    named = {name: name for name in inputs}
    return Segment(model.SerializeToString(), (), named, {name: name for name in outputs})


def _session(segment: Segment, weights: Mapping[str, np.ndarray], provider: str) -> Any:
    """As the runtime makes them, but that the smallest numbers are zero: a softmax behind a mask
    takes seven times as long with them, and no graph says whether there are any."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    levels = onnxruntime.GraphOptimizationLevel
    level = levels.ORT_ENABLE_EXTENDED if segment.fused else levels.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    if segment.weights:
        arrays = [weights[name] for name in segment.weights]
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
        options.add_external_initializers(list(segment.weights), values)
    return onnxruntime.InferenceSession(segment.model, options, providers=[provider])
