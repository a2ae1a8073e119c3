"""Kernel times that were measured on one kind of device: plain data, kept in a file of its own."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from simulator.errors import ClusterError

SCHEMA_VERSION = 1
_MAX_FILE_BYTES = 256 << 20
_KEYS = {"schema_version", "machine", "device_kind", "graphs", "samples"}


class KernelSignature(NamedTuple):
    """What two ops share that take equally long, as far as the graph tells."""

    op_type: str
    kind: int
    dtype: int
    flops: float
    bytes_read: float
    bytes_written: float
    shape: tuple[int, ...]


def signatures(graph: Graph) -> list[KernelSignature]:
    """The signature of each op."""
    return [
        KernelSignature(
            graph.op_types[op], int(kind), int(dtype), flops, read, written, tuple(shape)
        )
        for op, (kind, dtype, flops, read, written, shape) in enumerate(
            zip(
                graph.kinds.tolist(),
                graph.dtypes.tolist(),
                graph.flops.tolist(),
                graph.bytes_read.tolist(),
                graph.bytes_written.tolist(),
                graph.output_shapes.tolist(),
                strict=True,
            )
        )
    ]


@dataclass(frozen=True, eq=False)
class KernelTimes:
    """What kernels took on one kind of device, by graph and by what kernels have in common."""

    machine: str
    device_kind: str
    graph_seconds: Mapping[str, Float64[np.ndarray, " _"]] = field(default_factory=dict)
    """Seconds per op by graph digest."""
    samples: Mapping[KernelSignature, float] = field(default_factory=dict)
    """Seconds by signature."""

    def with_graph(self, graph: Graph, seconds: Float64[np.ndarray, " ops"]) -> "KernelTimes":
        """The times with one more measured graph; equal signatures get the mean of their ops."""
        sums: dict[KernelSignature, list[float]] = {}
        for op, key in enumerate(signatures(graph)):
            if seconds[op] > 0:
                sums.setdefault(key, []).append(float(seconds[op]))
        means = {key: math.fsum(values) / len(values) for key, values in sums.items()}
        return KernelTimes(
            self.machine,
            self.device_kind,
            {**self.graph_seconds, graph.digest: np.array(seconds, np.float64)},
            {**self.samples, **means},
        )


def kernel_times_to_json(times: KernelTimes) -> str:
    """Serialise; `kernel_times_from_json` reads it back."""
    body = {
        "schema_version": SCHEMA_VERSION,
        "machine": times.machine,
        "device_kind": times.device_kind,
        "graphs": {digest: values.tolist() for digest, values in times.graph_seconds.items()},
        "samples": [[*key, seconds] for key, seconds in sorted(times.samples.items())],
    }
    return json.dumps(body)


def read_kernel_times(path: Path) -> KernelTimes:
    """Read measured kernel times.

    Raises:
        ClusterError: no such file, or not a table that this version reads.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ClusterError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; not a cost table")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: cannot be read ({error})") from error
    return kernel_times_from_json(text, str(path))


def kernel_times_from_json(text: str, origin: str) -> KernelTimes:
    """Like `read_kernel_times`, from text."""
    try:
        body = json.loads(text)
        if not isinstance(body, dict) or set(body) != _KEYS:
            raise ClusterError(f"{origin}: not a cost table; it needs {', '.join(sorted(_KEYS))}")
        if body["schema_version"] != SCHEMA_VERSION:
            raise ClusterError(f"{origin}: schema_version {body['schema_version']!r:.40}")
        graphs = {str(k): _figures(v, origin) for k, v in dict(body["graphs"]).items()}
        samples = {}
        for row in body["samples"]:
            *key, seconds = row
            samples[_signature(key)] = float(_figures([seconds], origin)[0])
        return KernelTimes(_text(body["machine"]), _text(body["device_kind"]), graphs, samples)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ClusterError(f"{origin}: damaged cost table ({error})") from error


def _signature(key: Sequence[Any]) -> KernelSignature:
    op_type, kind, dtype, flops, read, written, shape = key
    sizes = tuple(_count(size) for size in shape)
    figures = (_figure(flops), _figure(read), _figure(written))
    return KernelSignature(_text(op_type), _count(kind), _count(dtype), *figures, sizes)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not text")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.40} is not a whole number of 64 bits")
    return value


def _figure(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r:.40} is not a figure")
    return float(value)


def _figures(values: Any, origin: str) -> Float64[np.ndarray, " _"]:
    if not isinstance(values, list):
        raise ValueError(f"{values!r:.40} is not a list of seconds")
    seconds = np.array([_figure(value) for value in values], np.float64)
    if not np.isfinite(seconds).all():
        raise ClusterError(f"{origin}: seconds must be finite and not negative")
    return seconds
