#!/usr/bin/env python3
"""Runs a model that graphwright split by device: one thread per device, onnxruntime in each.

Needs onnxruntime and numpy only. As a module:

    with SplitModel("MANIFEST.split.json") as model:
        outputs = model.run(feeds)
        for outputs in model.stream(many_feeds):
            ...

As a command:

    python THIS_SCRIPT --inputs inputs.npz --outputs outputs.npz
    python THIS_SCRIPT --random --check original.onnx --time 50
    python THIS_SCRIPT --random --check original.onnx --stream 100
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # this folder: what lies beside a model is not code of this script

import argparse
import ctypes
import heapq
import itertools
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock, Thread, current_thread
from typing import Any, Literal, TypeVar, overload

import numpy as np

# onnxruntime would report names and hashes of models to its maker; `=0` lets it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

MANIFEST = Path(__file__).with_name("MANIFEST.split.json")
#: Steps before those that are timed.
WARM_UP = 5
#: Requests that `--random --stream` makes up; a longer stream repeats them.
MADE_UP = 8
_VERSION = 2
_CPU = "CPUExecutionProvider"
_SHORT = {"cpu": _CPU, "gpu": "CUDAExecutionProvider", "cuda": "CUDAExecutionProvider"}

#: What onnxruntime calls the memory of a provider's device; others' tensors pass through the host.
_MEMORY = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "CANNExecutionProvider": "cann",
}

_HOST = ("cpu", 0)
_T = TypeVar("_T")

_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class _Format:
    """A number type that numpy lacks."""

    code: int
    """ONNX's number of it."""
    bits: int
    exponent: int = 0
    """Bits of the exponent; 0 is a whole number."""
    bias: int = 0
    special: str = "none"
    """Where infinity and NaN are: the `top` exponent, the `last` number, minus `zero`."""
    signed: bool = True


_LACKING = {
    "tensor(bfloat16)": _Format(16, 16, 8, 127, "top"),
    "tensor(float8e4m3fn)": _Format(17, 8, 4, 7, "last"),
    "tensor(float8e4m3fnuz)": _Format(18, 8, 4, 8, "zero"),
    "tensor(float8e5m2)": _Format(19, 8, 5, 15, "top"),
    "tensor(float8e5m2fnuz)": _Format(20, 8, 5, 16, "zero"),
    "tensor(uint4)": _Format(21, 4, signed=False),
    "tensor(int4)": _Format(22, 4),
    "tensor(float4e2m1)": _Format(23, 4, 2, 1),
    "tensor(uint2)": _Format(25, 2, signed=False),
    "tensor(int2)": _Format(26, 2),
}


class SplitError(RuntimeError):
    """The parts cannot be loaded or run here; the message says which, why, and what to do."""


class SplitModel:
    """The parts of a model as sessions, and a thread for each device.

    Args:
        manifest: the exported `<model>.split.json`.
        cpu: run all parts on the CPU, whatever devices they are for.
        threads: of each session's pool; None shares the cores out among the devices that compute on
            the CPU, 0 leaves it to onnxruntime. Pools do not spin while they wait, unless 0.
        on: what runs a device instead of what the manifest says: `NAME[:NUMBER][,KEY=VALUE...]`, an
            execution provider, which of its devices, and its options.

    Raises:
        SplitError: an execution provider is missing or does not start, or the manifest is not for
            this script.
        ValueError: a negative number of threads.
    """

    def __init__(
        self,
        manifest: str | Path = MANIFEST,
        *,
        cpu: bool = False,
        threads: int | None = None,
        on: Mapping[str, str] | None = None,
    ) -> None:
        manifest = Path(manifest)
        self.manifest: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        if self.manifest["schema_version"] != _VERSION:
            raise SplitError(f"{manifest}: of another version; use the script that lies beside it")
        if threads is not None and threads < 0:
            raise ValueError(f"threads are {threads}; give 0 or more")
        entries = self.manifest["parts"]
        targets = _targets(self.manifest, on or {}, cpu)
        self.devices = list(dict.fromkeys(entry["device"] for entry in entries))
        for name in self.devices:
            targets[name].check(name)
        self.cpu_devices = [name for name in self.devices if targets[name].provider == _CPU]
        self.threads = threads
        if threads is None:
            self.threads = max(1, _cores() // max(1, len(self.cpu_devices)))
        staying = _staying(self.manifest)
        self.parts: list[_Part] = []
        for entry in entries:
            target = targets[entry["device"]]
            session = _session(manifest.parent / entry["file"], target, self.threads)
            memory = dict.fromkeys(staying.intersection(entry["outputs"]), target.memory)
            self.parts.append(_Part(entry, session, memory))
        self._makers = {
            name: index for index, part in enumerate(self.parts) for name in part.outputs
        }
        self._sources = [
            sorted({self._makers[name] for name in part.inputs if name in self._makers})
            for part in self.parts
        ]
        readers = (name for part in self.parts for name in (*part.inputs, *part.optional))
        self._readers = Counter([*readers, *self.manifest["outputs"]])
        self.types = {name: kind for part in self.parts for name, kind in part.types.items()}
        self._turn = Lock()
        self.before = _order(self.parts, self._sources)
        self.workers: set[Thread] = set()
        """Threads of the devices, as far as they have begun."""
        self.pools = {
            name: ThreadPoolExecutor(1, name, _note_thread, (self.workers,))
            for name in self.devices
        }
        self._streams: set[_Stream] = set()
        self._is_closed = False

    def __enter__(self) -> "SplitModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, once what they run is done; streams that are open end there."""
        self._is_closed = True
        for stream in list(self._streams):
            stream.stop()
        for pool in self.pools.values():
            pool.shutdown()

    @property
    def inputs(self) -> list[str]:
        """Names of the tensors that `run` must be given."""
        return list(self.manifest["inputs"])

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The model's outputs by name. Each device runs its parts in order, as inputs arrive.

        Args:
            feeds: arrays, onnxruntime's OrtValues, lists for sequences, dicts for maps. A tensor of
                a type that numpy lacks may also be given as `stored` tells it.

        Returns:
            Arrays, lists for sequences, dicts for maps, None for an optional that is empty. Tensors
            of types that numpy lacks (bfloat16, float8, int4) are OrtValues in the host's memory:
            `stored` gives their bits, `numbers` their values.

        Raises:
            ValueError: inputs are missing, unknown or of the wrong type.
            SplitError: a part fails; the message names it and its device.
        """
        step = self.begin(feeds)
        with self._turn:  # devices that took steps in different orders would wait for each other
            jobs = [self.pools[name].submit(self._run_device, name, step) for name in self.devices]
        for job in jobs:
            job.result()
        return self._read(feeds, step)

    @overload
    def stream(
        self,
        feeds: Iterable[Mapping[str, Any]],
        in_flight: int | None = None,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[dict[str, Any]]: ...

    @overload
    def stream(
        self,
        feeds: Iterable[Mapping[str, Any]],
        in_flight: int | None = None,
        *,
        errors: Literal["return"],
    ) -> Iterator[dict[str, Any] | Exception]: ...

    def stream(
        self,
        feeds: Iterable[Mapping[str, Any]],
        in_flight: int | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[dict[str, Any]] | Iterator[dict[str, Any] | Exception]:
        """The outputs of many requests, in their order; devices work on different ones at once.

        Each device takes the earliest request whose next part there has its inputs. A request is
        taken from `feeds` when its turn to start comes, in the caller's thread. To leave the
        iterator early, or to close it, drops what has not run yet and waits for what is running;
        the model can be used again at once, by `run` and other streams too.

        Args:
            feeds: of each request, as for `run`. Arrays are read where they lie: they must not be
                written to before the outputs of their request have come.
            in_flight: the most requests that have been taken and whose outputs have not been given;
                by default one more than there are devices.
            errors: "raise" raises the error of a request when its outputs are due, and the stream
                ends; "return" gives the exception in their place and goes on.

        Returns:
            For each request what `run` returns.

        Raises:
            ValueError: `in_flight` is below one, or `errors` is something else.

        While iterating it raises what `run` does, and a SplitError once the model is closed. An
        error of `feeds` itself comes after the outputs of what it gave before, in both modes.
        """
        if in_flight is None:
            in_flight = len(self.devices) + 1
        if in_flight < 1:
            raise ValueError(f"in_flight is {in_flight}; give 1 or more")
        if errors not in ("raise", "return"):
            raise ValueError(f'errors is {errors!r}; give "raise" or "return"')
        return self._stream(iter(feeds), in_flight, errors == "return")

    def _stream(
        self, feeds: Iterator[Mapping[str, Any]], in_flight: int, returns: bool
    ) -> Iterator[dict[str, Any] | Exception]:
        stream = _Stream(self)
        self._streams.add(stream)
        if self._is_closed:  # asked after it was added: `close` stops it, or this sees that it ran
            stream.stop()
        on_the_way: deque[tuple[Mapping[str, Any], Future[_Step]]] = deque()
        failure: Exception | None = None
        has_more = True
        try:
            while has_more or on_the_way:
                while has_more and len(on_the_way) < in_flight:
                    taken = _attempt(_first, feeds)
                    if isinstance(taken, Exception):
                        failure, has_more = taken, False
                    elif taken:
                        on_the_way.append((taken[0], stream.start(taken[0])))
                    else:
                        has_more = False
                if on_the_way:
                    outcome = _attempt(self._outputs, *on_the_way.popleft())
                    if isinstance(outcome, Exception) and (stream.is_stopped or not returns):
                        raise outcome
                    yield outcome
            if failure is not None:
                raise failure
        finally:
            self._streams.discard(stream)
            stream.stop()

    def _outputs(self, feeds: Mapping[str, Any], ended: "Future[_Step]") -> dict[str, Any]:
        """What a request came to, once it is there."""
        return self._read(feeds, ended.result())

    def begin(self, feeds: Mapping[str, Any]) -> "_Step":
        """The tensors of a run before its first part."""
        missing = [name for name in self.inputs if name not in feeds]
        unknown = set(feeds) - set(self.inputs) - set(self.manifest["optional_inputs"])
        if missing or unknown:
            raise ValueError(f"missing inputs {missing}, unknown inputs {sorted(unknown)}")
        return _Step(self.given(feeds), self._readers, len(self.parts))

    def _read(self, feeds: Mapping[str, Any], step: "_Step") -> dict[str, Any]:
        return {
            name: feeds[name]
            if name in feeds
            else self.parts[self._makers[name]].read(name, step.values[name])
            for name in self.manifest["outputs"]
        }

    def given(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs as OrtValues, where onnxruntime has such of their type."""
        return {name: _given(name, value, self.types.get(name)) for name, value in feeds.items()}

    def run_part(self, index: int, step: "_Step") -> None:
        """Run one part of a run, on the thread of its device.

        Raises:
            SplitError: the part fails.
        """
        part = self.parts[index]
        try:
            step.values.update(zip(part.outputs, part.run(step.values), strict=True))
        except Exception as error:
            raise SplitError(f"{part.file} on {part.device}: {error}") from error
        step.drop((*part.inputs, *part.optional))

    def _run_device(self, device: str, step: "_Step") -> None:
        mine = [index for index, part in enumerate(self.parts) if part.device == device]
        try:
            for index in mine:
                for source in self._sources[index]:
                    step.ended[source].result()
                self.run_part(index, step)
                step.ended[index].set_result(None)
        except BaseException as error:
            # Whoever waits for what this device still owes must not wait for ever.
            for index in mine:
                if not step.ended[index].done():
                    step.ended[index].set_exception(error)
            raise


class _Step:
    """The tensors of one run, each held until its last reader is done."""

    def __init__(self, given: dict[str, Any], readers: Mapping[str, int], parts: int) -> None:
        self.values = given
        self.ended: list[Future[None]] = [Future() for _ in range(parts)]
        self._left = dict(readers)
        self._lock = Lock()

    def drop(self, names: Sequence[str]) -> None:
        """Say that a part has read these."""
        with self._lock:
            for name in names:
                self._left[name] -= 1
                if not self._left[name]:
                    self.values.pop(name, None)


@dataclass(eq=False)
class _Request:
    """One of a stream: its tensors, and which parts each of its parts still waits for."""

    number: int
    step: _Step
    waits: list[set[int]]
    left: int
    """Parts that have not ended."""
    ended: Future[_Step]


class _Stream:
    """Requests on their way through the devices.

    A part whose inputs are there is a job of its device's thread, and takes there whichever such
    part is of the earliest request; so no job ever waits, and requests cannot block each other. A
    thread has one part at a time, and with it the part's binding.
    """

    def __init__(self, model: SplitModel) -> None:
        self._model = model
        self._numbers = itertools.count()
        self._ready: dict[str, list[tuple[int, int, _Request]]] = {n: [] for n in model.devices}
        """Heaps of request and part, as many as there are jobs in the devices' pools."""
        self._unfinished: set[_Request] = set()
        self._running = 0
        self._changed = Condition()
        self.is_stopped = False

    def start(self, feeds: Mapping[str, Any]) -> Future[_Step]:
        """Send a request on its way; its tensors, once its last part has ended, or its error."""
        ended: Future[_Step] = Future()
        step = _attempt(self._model.begin, feeds)
        if isinstance(step, Exception):
            ended.set_exception(step)
            return ended
        waits = [set(parts) for parts in self._model.before]
        request = _Request(next(self._numbers), step, waits, len(waits), ended)
        with self._changed:
            if self.is_stopped:
                ended.set_exception(_stopped())
                return ended
            self._unfinished.add(request)
            for index, parts in enumerate(waits):
                if not parts:
                    self._offer(request, index)
        return ended

    def stop(self) -> None:
        """Drop what does not run yet, and wait for what does."""
        with self._changed:
            self.is_stopped = True
            for request in self._unfinished:
                request.ended.set_exception(_stopped())
            self._unfinished.clear()
            # An iterator that nobody holds may be collected on the very thread to wait for.
            if current_thread() not in self._model.workers:
                self._changed.wait_for(lambda: not self._running)

    def _offer(self, request: _Request, index: int) -> None:
        device = self._model.parts[index].device
        heapq.heappush(self._ready[device], (request.number, index, request))
        self._model.pools[device].submit(self._work, device)

    def _work(self, device: str) -> None:
        """Run what is ready on a device of the earliest request, if that is still wanted."""
        with self._changed:
            _, index, request = heapq.heappop(self._ready[device])
            if request not in self._unfinished:  # failed on another device, or stopped
                return
            self._running += 1
        failure = _attempt(self._model.run_part, index, request.step)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
            if request not in self._unfinished:
                return
            request.left -= 1
            if failure is not None:
                self._unfinished.remove(request)
                request.ended.set_exception(failure)
            elif not request.left:
                self._unfinished.remove(request)
                request.ended.set_result(request.step)
            else:
                for later, parts in enumerate(request.waits):
                    if index in parts:
                        parts.remove(index)
                        if not parts:
                            self._offer(request, later)


def _order(parts: Sequence["_Part"], sources: Sequence[Sequence[int]]) -> list[set[int]]:
    """Which parts each part of a run waits for: its sources, and the one before on its device."""
    last: dict[str, int] = {}
    before = []
    for index, part in enumerate(parts):
        own = {last[part.device]} if part.device in last else set()
        before.append(own.union(sources[index]))
        last[part.device] = index
    return before


def _attempt(call: Callable[..., _T], *given: Any) -> _T | Exception:
    """What a call returns, or its error, for whoever it is due to."""
    try:
        return call(*given)
    except Exception as error:  # noqa: BLE001 - returned: raised, or given to the caller, in turn
        return error


def _first(feeds: Iterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The next of them, or nothing."""
    return list(itertools.islice(feeds, 1))


def _stopped() -> SplitError:
    return SplitError("the stream ended before this request: the model was closed, or the iterator")


def _note_thread(threads: set[Thread]) -> None:
    threads.add(current_thread())


class _Part:
    """One model as a session, and how its tensors are handed over.

    Tensors, sequences and maps are bound to the session as OrtValues, whatever their type. What
    cannot be bound (strings, sequences and maps of the caller, optionals, sparse tensors) goes in
    and out as Python objects.
    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        session: ort.InferenceSession,
        memory: Mapping[str, tuple[str, int]],
    ) -> None:
        self.file, self.device = entry["file"], entry["device"]
        self.inputs: list[str] = entry["inputs"]
        self.optional: list[str] = entry["optional_inputs"]
        self.outputs: list[str] = entry["outputs"]
        self.session = session
        named = [*session.get_inputs(), *session.get_overridable_initializers()]
        self.types = {item.name: item.type for item in named}
        kinds = {item.name: item.type for item in session.get_outputs()}
        self._is_bindable = all(
            kinds[name].startswith(("tensor(", "seq(", "map(")) for name in self.outputs
        )
        self._memory = [
            memory.get(name, _HOST) if kinds[name] in {*_NUMPY, *_LACKING} else _HOST
            for name in self.outputs
        ]
        self._waits = session.get_providers()[0] != _CPU
        self._binding = session.io_binding()

    def run(self, values: Mapping[str, Any]) -> list[Any]:
        """Outputs, in order; OrtValues where onnxruntime has such of their type."""
        names = [*self.inputs, *(name for name in self.optional if name in values)]
        given = {name: values[name] for name in names}
        if self._is_bindable and all(isinstance(v, ort.OrtValue) for v in given.values()):
            return self._run_bound(given)
        return [_carried(value) for value in self.session.run(self.outputs, given)]

    def _run_bound(self, given: Mapping[str, ort.OrtValue]) -> list[ort.OrtValue]:
        binding = self._binding
        try:
            for name, value in given.items():
                binding.bind_ortvalue_input(name, value)
            for name, (memory, number) in zip(self.outputs, self._memory, strict=True):
                binding.bind_output(name, memory, number)
            if self._waits:
                binding.synchronize_inputs()
            self.session.run_with_iobinding(binding)
            if self._waits:
                binding.synchronize_outputs()
            outputs: list[ort.OrtValue] = binding.get_outputs()
            return outputs
        finally:  # bound tensors would be held until the next step
            binding.clear_binding_inputs()
            binding.clear_binding_outputs()

    def read(self, name: str, value: Any) -> Any:
        """An output of this part as a Python object; an OrtValue where numpy lacks its type."""
        if not isinstance(value, ort.OrtValue):
            return value
        if any(kind in value.data_type() for kind in _LACKING):
            return value
        if value.is_tensor():
            return value.numpy()
        binding = self.session.io_binding()
        binding.bind_ortvalue_output(name, value)
        return binding.copy_outputs_to_cpu()[0]


@dataclass(frozen=True)
class _Target:
    """An execution provider with its options."""

    provider: str
    options: Mapping[str, str]

    @property
    def memory(self) -> tuple[str, int]:
        """Kind and number of the memory in which its outputs can stay."""
        kind = _MEMORY.get(self.provider, "cpu")
        return kind, 0 if kind == "cpu" else int(self.options.get("device_id", 0))

    def check(self, device: str) -> None:
        """Raise `SplitError` unless this onnxruntime has the provider."""
        there = ort.get_available_providers()
        if self.provider not in there:
            raise SplitError(
                f"{device}: onnxruntime {ort.__version__} has no {self.provider} here; it has "
                f"{', '.join(there)}. Install the onnxruntime that has it, name another "
                f"(--on {device}=NAME), or run all parts on the CPU (--cpu, SplitModel(cpu=True))"
            )


def parse_target(text: str) -> _Target:
    """`NAME[:NUMBER][,KEY=VALUE...]`: a provider, which of its devices, and its options."""
    named, *pairs = text.split(",")
    name, _, number = named.partition(":")
    provider = _SHORT.get(name, name)
    options = {"device_id": number} if number and provider != _CPU else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SplitError(f"{text}: {pair!r} is no option; NAME[:NUMBER][,KEY=VALUE...]")
        options[key] = value
    return _Target(provider, options)


def _targets(manifest: Mapping[str, Any], on: Mapping[str, str], cpu: bool) -> dict[str, _Target]:
    devices = {item["name"]: item for item in manifest["devices"]}
    if strange := sorted(set(on) - set(devices)):
        raise SplitError(f"no device {strange[0]!r}; there are {', '.join(devices)}")
    return {
        name: parse_target(_CPU if cpu else on.get(name, item["provider"]))
        for name, item in devices.items()
    }


def _staying(manifest: Mapping[str, Any]) -> set[str]:
    """Tensors that only parts on their own device read: they need not pass through the host."""
    homes: dict[str, set[str]] = {}
    for part in manifest["parts"]:
        for name in (*part["inputs"], *part["outputs"]):
            homes.setdefault(name, set()).add(part["device"])
    return {name for name, found in homes.items() if len(found) == 1} - set(manifest["outputs"])


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _session(path: Path, target: _Target, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [(target.provider, dict(target.options))]
    if target.provider != _CPU:
        providers.append((_CPU, {}))
    session = ort.InferenceSession(str(path), options, providers=providers)
    if target.provider not in session.get_providers():
        raise SplitError(
            f"{path.name}: {target.provider} does not start here (a driver or a library is "
            "missing); run all parts on the CPU (--cpu, SplitModel(cpu=True))"
        )
    return session


def _given(name: str, value: Any, kind: str | None) -> Any:
    if isinstance(value, ort.OrtValue):
        return value
    if kind in _LACKING:
        return _from_stored(name, np.asarray(value), kind)
    if kind not in _NUMPY:
        return value
    wanted = np.dtype(_NUMPY[kind])
    array = value if isinstance(value, np.ndarray) else np.asarray(value, wanted)
    if array.dtype != wanted:
        raise ValueError(f"input {name!r} is {array.dtype}, the model reads {wanted}")
    return ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))


def _carried(value: Any) -> Any:
    """What a session gave as an object, as an OrtValue where there can be one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return ort.OrtValue.ortvalue_from_numpy(value)
    return value


def stored(value: ort.OrtValue) -> np.ndarray:
    """A tensor of a type that numpy lacks, in its own shape, as numpy can store it.

    Whole numbers of 2 and 4 bits are int8 or uint8. Others are their bits: bfloat16 as uint16,
    float8 as uint8, float4 as the lower half of uint8.
    """
    form = _LACKING[value.data_type()]
    shape = tuple(value.shape())
    count = int(np.prod(shape))
    raw = ctypes.string_at(value.data_ptr(), -(-count * form.bits // 8)) if count else b""
    if form.bits >= 8:
        return np.frombuffer(raw, np.dtype(f"u{form.bits // 8}")).reshape(shape).copy()
    packed = np.frombuffer(raw, np.uint8)
    shifts = np.arange(0, 8, form.bits, dtype=np.uint8)
    codes = ((packed[:, None] >> shifts) & ((1 << form.bits) - 1)).reshape(-1)[:count]
    if form.signed and not form.exponent:
        half = 1 << (form.bits - 1)
        return ((codes.astype(np.int8) ^ half) - half).reshape(shape)
    return codes.astype(np.uint8).reshape(shape)


def _from_stored(name: str, array: np.ndarray, kind: str) -> ort.OrtValue:
    """The inverse of `stored`; arrays of ml_dtypes' types of that name will do too."""
    form = _LACKING[kind]
    own = kind[len("tensor(") : -1]
    wanted = np.dtype(f"u{max(1, form.bits // 8)}")
    if array.dtype.name.replace("_", "") == own:
        array = array.astype(np.int8) if form.bits < 8 and not form.exponent else array.view(wanted)
    if array.dtype.kind not in "iu" or array.dtype.itemsize != wanted.itemsize:
        raise ValueError(
            f"input {name!r} is {array.dtype}, the model reads {own}; give an OrtValue, or "
            f"{wanted} as `stored` tells it"
        )
    codes = np.ascontiguousarray(array).view(wanted).reshape(-1)
    if form.bits < 8:
        per_byte = 8 // form.bits
        padded = np.zeros(-(-len(codes) // per_byte) * per_byte, np.uint8)
        padded[: len(codes)] = codes & ((1 << form.bits) - 1)
        shifts = np.arange(0, 8, form.bits, dtype=np.uint8)
        codes = (padded.reshape(-1, per_byte) << shifts).sum(axis=1, dtype=np.uint8)
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), form.code)
    if codes.size:
        ctypes.memmove(value.data_ptr(), codes.tobytes(), codes.nbytes)
    return value


def numbers(value: ort.OrtValue) -> np.ndarray:
    """The values of a tensor of a type that numpy lacks, as float64."""
    form, codes = _LACKING[value.data_type()], stored(value)
    if not form.exponent:
        return codes.astype(np.float64)
    wide = codes.astype(np.int64)
    fraction = form.bits - 1 - form.exponent
    top = (1 << form.exponent) - 1
    power, rest = wide >> fraction & top, wide & ((1 << fraction) - 1)
    size = np.where(power == 0, rest, rest + (1 << fraction)).astype(np.float64)
    size *= 2.0 ** (np.maximum(power, 1) - form.bias - fraction)
    if form.special == "top":
        size[power == top] = np.where(rest[power == top] == 0, np.inf, np.nan)
    sign = wide >> (form.bits - 1)
    if form.special == "last":
        size[wide & ((1 << (form.bits - 1)) - 1) == (1 << (form.bits - 1)) - 1] = np.nan
    if form.special == "zero":
        size[wide == 1 << (form.bits - 1)] = np.nan
    result: np.ndarray = np.where(sign, -size, size)
    return result


def random_feeds(
    types: Mapping[str, str], shapes: Mapping[str, Sequence[int]], seed: int
) -> dict[str, Any]:
    """Values for the inputs of a model, in the shapes that it was placed for; whole numbers are 0
    or 1.

    Raises:
        SplitError: an input is no tensor of numbers.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for name, kind in types.items():
        if name not in shapes:
            continue
        if kind not in _NUMPY and kind not in _LACKING:
            raise SplitError(f"input {name!r} is a {kind}; give --inputs")
        shape = tuple(shapes[name])
        if kind in _LACKING:
            feeds[name] = _random_codes(_LACKING[kind], shape, generator)
            continue
        dtype = _NUMPY[kind]
        whole = np.issubdtype(dtype, np.integer) or dtype is np.bool_
        values = generator.integers(0, 2, shape) if whole else generator.standard_normal(shape)
        feeds[name] = np.asarray(values).astype(dtype)
    return feeds


def _random_codes(
    form: _Format, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """As `stored` tells them; other numbers lie between a half and two, with either sign."""
    dtype = np.dtype(f"u{max(1, form.bits // 8)}")
    if not form.exponent:
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    fraction = form.bits - 1 - form.exponent
    size = generator.integers(form.bias - 1 << fraction, form.bias + 1 << fraction, shape)
    sign = generator.integers(0, 2, shape) << (form.bits - 1)
    return np.asarray(size | sign).astype(dtype)


def largest_difference(got: Any, wanted: Any) -> float:
    """The largest absolute difference, over the largest value where that is above one."""
    if isinstance(wanted, list | tuple):
        pairs = zip(got, wanted, strict=True)
        return max((largest_difference(a, b) for a, b in pairs), default=0.0)
    if isinstance(wanted, dict):
        if got.keys() != wanted.keys():
            return float("inf")
        return max((largest_difference(got[key], wanted[key]) for key in wanted), default=0.0)
    if isinstance(wanted, ort.OrtValue) and wanted.data_type() in _LACKING:
        return largest_difference(numbers(got), numbers(wanted))
    if wanted is None or isinstance(wanted, str | ort.OrtValue):
        return 0.0 if got == wanted else float("inf")
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.shape != wanted.shape:
        return float("inf")
    if wanted.dtype.kind not in "fiub":
        return 0.0 if (got == wanted).all() else float("inf")
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if (np.isnan(got) != np.isnan(wanted)).any():
        return float("inf")
    same = (got == wanted) | np.isnan(wanted)
    gap = np.abs(np.where(same, 0, got) - np.where(same, 0, wanted)).max(initial=0)
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    return float(gap / max(1.0, scale))


@dataclass(frozen=True)
class Timing:
    """Seconds of a step, over several."""

    steps: int
    median: float
    low: float
    high: float
    """Nine steps of ten lie between."""
    cpu: float
    """CPU seconds of a step, of all threads, on average."""

    def __str__(self) -> str:
        low, median, high, cpu = (
            f"{1e3 * seconds:.3f}" for seconds in (self.low, self.median, self.high, self.cpu)
        )
        return (
            f"median {median} ms, nine of ten within {low} to {high} ms, {cpu} ms of CPU time "
            f"({self.steps} steps after {WARM_UP} to warm up)"
        )


def time_steps(step: Callable[[], object], count: int) -> Timing:
    """Run a step `count` times, after some to warm up."""
    for _ in range(WARM_UP):
        step()
    taken = []
    spent = time.process_time()
    for _ in range(count):
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    spent = time.process_time() - spent
    low, median, high = np.quantile(taken, (0.05, 0.5, 0.95)).tolist()
    return Timing(count, median, low, high, spent / count)


def steps_per_second(results: Iterator[object], count: int) -> float:
    """Of `count` results, after some to warm up; an iterator of more is left where it is."""
    for _ in range(WARM_UP):
        next(results)
    begun = time.perf_counter()
    for _ in range(count):
        next(results)
    return count / (time.perf_counter() - begun)


def _flat(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays to store of an output, each with a name."""
    if isinstance(value, ort.OrtValue):
        yield name, stored(value)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _flat(f"{name}.{index}", item)
    elif isinstance(value, dict):
        yield f"{name}.keys", np.array(list(value))
        yield f"{name}.values", np.array(list(value.values()))
    elif value is not None:
        array = np.asarray(value)
        yield name, array.astype(np.str_) if array.dtype.kind == "O" else array


def _described(value: Any) -> str:
    if isinstance(value, ort.OrtValue):
        return f"{value.data_type()}{list(value.shape())}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__}" + (f" of {len(value)}" if hasattr(value, "__len__") else "")


def _whole(model: SplitModel, path: Path, threads: int | None = None) -> _Part:
    """The original in one session on the CPU, by default with as many threads as all parts have."""
    if threads is None:
        threads = (model.threads or 0) * max(1, len(model.cpu_devices))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=[_CPU])
    names = [item.name for item in session.get_inputs()]
    free = [item.name for item in session.get_overridable_initializers()]
    entry = {
        "file": str(path), "device": "the CPU", "inputs": names, "optional_inputs": free,
        "outputs": model.manifest["outputs"],
    }  # fmt: skip
    return _Part(entry, session, {})


def _print_times(
    model: SplitModel, feeds: Mapping[str, Any], whole: _Part | None, steps: int
) -> None:
    run_by = {part.device: part.session.get_providers()[0] for part in model.parts}
    print(
        f"{len(model.parts)} parts, {model.threads or 'all'} threads a session: "
        + ", ".join(f"{device} by {provider}" for device, provider in run_by.items())
    )
    print(f"split: {time_steps(lambda: model.run(feeds), steps)}")
    predicted = model.manifest["predicted_seconds"]
    simulated = model.manifest["simulated_seconds"]
    print(
        f"predicted: {1e3 * predicted:.3f} ms as a split, {1e3 * simulated:.3f} ms as placed, by "
        f"{model.manifest['costs']} costs of {', '.join(model.devices)}"
    )
    if whole is not None:
        given = model.given(feeds)
        print(f"original in one session on the CPU: {time_steps(lambda: whole.run(given), steps)}")


def _print_stream(
    model: SplitModel, many_feeds: Sequence[Mapping[str, Any]], arguments: argparse.Namespace
) -> None:
    """Steps per second of the stream, beside those of its rivals."""
    count = arguments.stream
    in_flight = arguments.in_flight or len(model.devices) + 1
    requests = itertools.cycle(many_feeds)
    stream = model.stream(itertools.islice(requests, WARM_UP + count), in_flight)
    per_second = steps_per_second(stream, count)
    predicted = model.manifest["predicted_period_seconds"]
    print(
        f"stream: {per_second:.4g} steps/s, one each {1e3 / per_second:.3f} ms; predicted "
        f"{1 / predicted:.4g} steps/s, one each {1e3 * predicted:.3f} ms ({count} steps after "
        f"{WARM_UP} to warm up, at most {in_flight} on the way)"
    )
    alone = steps_per_second((model.run(feeds) for feeds in requests), count)
    print(f"split, one request after the other: {alone:.4g} steps/s")
    if arguments.check is None:
        return
    for threads in sorted({_cores(), 1}, reverse=True):
        whole = _whole(model, arguments.check, threads)
        results = (_original(model, whole, feeds) for feeds in requests)
        said = "1 core" if threads == 1 else f"{threads} cores"
        found = steps_per_second(results, count)
        print(f"original in one session on the CPU, {said}: {found:.4g} steps/s")


def _original(model: SplitModel, whole: _Part, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What the original gives."""
    values = zip(whole.outputs, whole.run(model.given(feeds)), strict=True)
    return {name: whole.read(name, value) for name, value in values}


def _gap(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """The largest difference of all outputs."""
    return max((largest_difference(got[name], wanted[name]) for name in wanted), default=0.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a model that graphwright split by device.")
    parser.add_argument("--inputs", type=Path, help="npz file with an array per input")
    parser.add_argument("--random", action="store_true", help="make the inputs up")
    parser.add_argument("--seed", type=int, default=0, help="of made-up inputs")
    parser.add_argument("--outputs", type=Path, help="npz file to write")
    parser.add_argument("--check", type=Path, help="original model: compare outputs with it")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, for --check")
    parser.add_argument("--cpu", action="store_true", help="run all parts on the CPU")
    parser.add_argument(
        "--on", action="append", default=[], metavar="DEVICE=NAME[:NUMBER][,KEY=VALUE...]",
        help="the execution provider of a device, which of its devices, and options; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N",
        help="of each session; by default the cores are shared out among devices on the CPU, and 0 "
        "leaves it to onnxruntime, whose threads spin while they wait",
    )  # fmt: skip
    parser.add_argument("--time", type=int, metavar="N", help="time so many steps")
    parser.add_argument(
        "--stream", type=int, metavar="N",
        help="run so many requests as a stream and time it; with --check, first compare them all",
    )  # fmt: skip
    parser.add_argument(
        "--in-flight", type=int, metavar="K",
        help="with --stream: the most requests on the way, by default one more than devices",
    )  # fmt: skip
    return parser


def _run(model: SplitModel, arguments: argparse.Namespace) -> int:
    whole = _whole(model, arguments.check) if arguments.check else None
    if arguments.inputs is not None:
        many_feeds = [dict(np.load(arguments.inputs))]
    else:
        types = model.types if whole is None else whole.types
        needed = {name: types[name] for name in model.inputs if name in types}
        shapes = model.manifest["example_shapes"]
        many_feeds = [
            random_feeds(needed, shapes, arguments.seed + number)
            for number in range(min(arguments.stream or 1, MADE_UP))
        ]
    feeds = many_feeds[0]
    outputs = model.run(feeds)
    if arguments.outputs is not None:
        arrays: dict[str, Any] = {
            key: array for item in outputs.items() for key, array in _flat(*item)
        }
        _write_arrays(arguments.outputs, arrays)
    for name, value in outputs.items():
        print(f"{name}: {_described(value)}")
    gap = 0.0
    if whole is not None:
        wanted = [_original(model, whole, given) for given in many_feeds]
        gap = _gap(outputs, wanted[0])
        said = f"largest difference to {arguments.check}"
        if arguments.stream:
            streamed = model.stream(
                itertools.islice(itertools.cycle(many_feeds), arguments.stream), arguments.in_flight
            )
            gaps = map(_gap, streamed, itertools.cycle(wanted))
            gap = max(gap, *gaps)
            said += f", of {arguments.stream} requests as a stream"
        print(f"{said}: {gap:.3g}", "" if gap <= arguments.tolerance else "TOO LARGE")
    if arguments.time:
        _print_times(model, feeds, whole, arguments.time)
    if arguments.stream:
        _print_stream(model, many_feeds, arguments)
    return 0 if gap <= arguments.tolerance else 1


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an npz file whole; a link of its name is replaced, and what it points to stays."""
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    partial = path.with_name(f".{path.name}.{os.getpid()}-{time.time_ns():x}.partial")
    try:
        with partial.open("xb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.inputs is None and not arguments.random:
        parser.error("give --inputs FILE.npz or --random")
    if arguments.stream is not None and arguments.stream < 1:
        parser.error(f"--stream {arguments.stream}: give 1 or more")
    if arguments.in_flight is not None and arguments.stream is None:
        parser.error("--in-flight is for --stream")
    if arguments.in_flight is not None and arguments.in_flight < 1:
        parser.error(f"--in-flight {arguments.in_flight}: give 1 or more")
    try:
        on = dict(text.partition("=")[::2] for text in arguments.on)
        with SplitModel(cpu=arguments.cpu, threads=arguments.threads, on=on) as model:
            return _run(model, arguments)
    except (SplitError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
