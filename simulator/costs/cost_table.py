"""Measured kernel times as a cost model: exact where an op was measured, scaled where not."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind
from simulator.clusters.cluster import Cluster, Device
from simulator.costs.cost_model import RooflineCosts, Seconds
from simulator.errors import ClusterError

SCHEMA_VERSION = 1
_MAX_FILE_BYTES = 256 << 20
#: Measured ops that are looked at for one that was not.
_NEIGHBOURS = 8
_KEYS = {"schema_version", "machine", "device_kind", "graphs", "samples"}


class Signature(NamedTuple):
    """What two ops share that take equally long, as far as the graph tells."""

    op_type: str
    kind: int
    dtype: int
    flops: float
    bytes_read: float
    bytes_written: float
    shape: tuple[int, ...]


def signatures(graph: Graph) -> list[Signature]:
    """The signature of each op."""
    return [
        Signature(graph.op_types[op], int(kind), int(dtype), flops, read, written, tuple(shape))
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
class CostTable:
    """A `CostModel` of measured kernels for one kind of device; others get the roofline.

    An op of a graph that was measured takes what it took there. Any other takes what an op of the
    same signature took. Else it is slower than the roofline as measured ops of its kind are:
    between the nearest smaller and the nearest larger one in proportion, or as the nearest where
    all are on one side. A kind that was never measured takes the roofline.
    """

    machine: str
    device_kind: str
    graph_seconds: Mapping[str, Float64[np.ndarray, " _"]] = field(default_factory=dict)
    """Seconds per op by graph digest."""
    samples: Mapping[Signature, float] = field(default_factory=dict)

    name = "calibrated"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """See `CostModel`."""
        roofline = RooflineCosts().seconds(graph, cluster)
        known = self.graph_seconds.get(graph.digest)
        result = roofline.copy()
        for index, device in enumerate(cluster.devices):
            if device.kind == self.device_kind:
                column = roofline[:, index]
                result[:, index] = column if known is None else known
                if known is None:
                    result[:, index] = self._looked_up(graph, column, cluster, index)
                result[np.isinf(column), index] = np.inf
        return result

    def with_graph(self, graph: Graph, seconds: Float64[np.ndarray, " ops"]) -> "CostTable":
        """The table with one more measured graph; equal signatures get the mean of their ops."""
        sums: dict[Signature, list[float]] = {}
        for op, key in enumerate(signatures(graph)):
            if seconds[op] > 0:
                sums.setdefault(key, []).append(float(seconds[op]))
        means = {key: math.fsum(values) / len(values) for key, values in sums.items()}
        return CostTable(
            self.machine,
            self.device_kind,
            {**self.graph_seconds, graph.digest: np.array(seconds, np.float64)},
            {**self.samples, **means},
        )

    @cached_property
    def _by_kind(self) -> Mapping[int, tuple[Float64[np.ndarray, "_ 2"], list[Signature]]]:
        """Work of the samples of each kind, in logarithms."""
        groups: dict[int, list[Signature]] = {}
        for key in self.samples:
            groups.setdefault(key.kind, []).append(key)
        return {
            kind: (np.array([_log_work(key) for key in keys]).reshape(-1, 2), keys)
            for kind, keys in groups.items()
        }

    def _looked_up(
        self, graph: Graph, roofline: np.ndarray, cluster: Cluster, index: int
    ) -> Float64[np.ndarray, " ops"]:
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
        result = roofline.copy()
        device = cluster.devices[index]
        for op, key in enumerate(signatures(graph)):
            if key in self.samples:
                result[op] = self.samples[key]
            elif not free[op] and key.kind in self._by_kind:
                result[op] = roofline[op] * self._slowness(key, float(roofline[op]), device)
        return result

    def _slowness(self, key: Signature, seconds: float, device: Device) -> float:
        """Measured over roofline time for an op that was not measured."""
        work, keys = self._by_kind[key.kind]
        distance = np.abs(work - _log_work(key)).sum(axis=1)
        distance += [0.0 if other.op_type == key.op_type else 1.0 for other in keys]
        around = np.argsort(distance, kind="stable")[:_NEIGHBOURS].tolist()
        base = {at: max(_roofline_seconds(keys[at], device), 1e-12) for at in around}
        smaller = next((at for at in around if base[at] <= seconds), around[0])
        larger = next((at for at in around if base[at] > seconds), around[0])
        low, high = math.log(base[smaller]), math.log(base[larger])
        share = 0.0 if low >= high else (math.log(max(seconds, 1e-12)) - low) / (high - low)
        ratios = [math.log(self.samples[keys[at]] / base[at]) for at in (smaller, larger)]
        return math.exp(ratios[0] + min(max(share, 0.0), 1.0) * (ratios[1] - ratios[0]))


def _roofline_seconds(key: Signature, device: Device) -> float:
    """As the roofline would have it for a measured op."""
    moved = key.bytes_read + key.bytes_written
    work = max(
        key.flops / device.flops_per_second["float32"], moved / device.memory_bytes_per_second
    )
    efficiency = device.efficiency.get(OpKind(key.kind).name.lower(), 1.0)
    return work / efficiency + device.launch_seconds


def _log_work(key: Signature) -> list[float]:
    return [math.log2(1 + key.flops), math.log2(1 + key.bytes_read + key.bytes_written)]


def table_to_json(table: CostTable) -> str:
    """Serialise; `table_from_json` reads it back."""
    body = {
        "schema_version": SCHEMA_VERSION,
        "machine": table.machine,
        "device_kind": table.device_kind,
        "graphs": {digest: values.tolist() for digest, values in table.graph_seconds.items()},
        "samples": [[*key, seconds] for key, seconds in sorted(table.samples.items())],
    }
    return json.dumps(body)


def read_table(path: Path) -> CostTable:
    """Read a table.

    Raises:
        ClusterError: no such file, or not a table that this version reads.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ClusterError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; not a cost table")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: cannot be read ({error})") from error
    return table_from_json(text, str(path))


def table_from_json(text: str, origin: str) -> CostTable:
    """Like `read_table`, from text."""
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
        return CostTable(str(body["machine"]), str(body["device_kind"]), graphs, samples)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ClusterError(f"{origin}: damaged cost table ({error})") from error


def _signature(key: Sequence[Any]) -> Signature:
    op_type, kind, dtype, flops, read, written, shape = key
    sizes = tuple(int(size) for size in shape)
    return Signature(
        str(op_type), int(kind), int(dtype), float(flops), float(read), float(written), sizes
    )


def _figures(values: Any, origin: str) -> Float64[np.ndarray, " _"]:
    found = np.array(values, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any():
        raise ClusterError(f"{origin}: seconds must be finite and not negative")
    return found
