"""The intermediate representation: an immutable dataflow graph as a struct of arrays."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from graphs.errors import GraphError
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage

SHAPE_RANK = 4

#: Fields that describe where a graph came from rather than what is computed.
_NOT_CONTENT = frozenset({"name", "report"})


@dataclass(frozen=True, eq=False)
class Graph:
    """A dataflow graph whose ops are in topological order.

    Tensors are the edges. They are sorted by producer, so the outputs of op `i` are the tensors
    `output_offsets[i]:output_offsets[i + 1]`; the consumers of tensor `t` are
    `consumers[consumer_offsets[t]:consumer_offsets[t + 1]]`, ascending and without repeats. A
    control edge is a tensor of storage `CONTROL` and zero bytes.

    Two graphs are equal when their contents are; `name` and `report` do not count.

    Raises:
        GraphError: the arrays contradict each other; the message names the op or tensor.
    """

    name: str
    op_names: tuple[str, ...]
    op_types: tuple[str, ...]
    """The framework's own type of each op, such as `Conv2DBackpropFilter`."""
    kinds: UInt8[np.ndarray, " ops"]
    phases: UInt8[np.ndarray, " ops"]
    dtypes: UInt8[np.ndarray, " ops"]
    """The type that each op computes in (`DType`)."""
    flops: Float64[np.ndarray, " ops"]
    bytes_read: Float64[np.ndarray, " ops"]
    bytes_written: Float64[np.ndarray, " ops"]
    resident_bytes: Int64[np.ndarray, " ops"]
    """Parameters and optimizer state that an op holds on its device for the whole step."""
    workspace_bytes: Int64[np.ndarray, " ops"]
    """Scratch memory held while the op runs."""
    launches: Int64[np.ndarray, " ops"]
    """Kernels that one run of the op starts: 1, or a loop's trips times the kernels of its body."""
    output_shapes: Int64[np.ndarray, "ops 4"]
    """Shape of the first output, right-aligned, padded with 1; leading dimensions are merged."""
    colocation: Int32[np.ndarray, " ops"]
    """Ops with the same non-negative group must share a device; -1 is no group."""
    tensor_producers: Int32[np.ndarray, " tensors"]
    tensor_bytes: Int64[np.ndarray, " tensors"]
    """What a transfer of the tensor moves."""
    tensor_storage: UInt8[np.ndarray, " tensors"]
    tensor_alias_of: Int32[np.ndarray, " tensors"]
    """For storage `ALIAS` the tensor whose buffer is shared, otherwise -1."""
    consumer_offsets: Int64[np.ndarray, " tensors+1"]
    consumers: Int32[np.ndarray, " edges"]
    profiled_seconds: Mapping[str, Float64[np.ndarray, " ops"]] = field(default_factory=dict)
    """Measured seconds per op for a kind of device, where the source has them; inf: cannot run."""
    report: ImportReport = field(default_factory=ImportReport)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        for values in self.profiled_seconds.values():
            values.setflags(write=False)
        _check(self)

    @property
    def op_count(self) -> int:
        return len(self.op_names)

    @property
    def tensor_count(self) -> int:
        return len(self.tensor_producers)

    @property
    def edge_count(self) -> int:
        """Number of (tensor, consumer) pairs, control edges included."""
        return len(self.consumers)

    @cached_property
    def output_offsets(self) -> Int64[np.ndarray, " {self.op_count}+1"]:
        """Offsets of each op's output tensors."""
        counts = np.bincount(self.tensor_producers, minlength=self.op_count)
        return _offsets(counts)

    @cached_property
    def edge_tensors(self) -> Int32[np.ndarray, " edges"]:
        """The tensor of each edge; edges are ordered by tensor, then by consumer."""
        counts = np.diff(self.consumer_offsets)
        return np.repeat(np.arange(self.tensor_count, dtype=np.int32), counts)

    @cached_property
    def input_offsets(self) -> Int64[np.ndarray, " {self.op_count}+1"]:
        """Offsets into `input_edges` per op."""
        return _offsets(np.bincount(self.consumers, minlength=self.op_count))

    @cached_property
    def input_edges(self) -> Int32[np.ndarray, " edges"]:
        """Indices of the edges that each op consumes, grouped by op, ascending."""
        return np.argsort(self.consumers, kind="stable").astype(np.int32)

    @cached_property
    def alias_edges(self) -> Int32[np.ndarray, " tensors"]:
        """For storage `ALIAS` the edge on which the producer reads the shared tensor, or -1."""
        edge_keys = self.edge_tensors.astype(np.int64) * self.op_count + self.consumers
        edges = np.searchsorted(edge_keys, _alias_keys(self)).astype(np.int32)
        return np.where(self.tensor_storage == Storage.ALIAS, edges, np.int32(-1))

    @cached_property
    def op_index(self) -> Mapping[str, int]:
        """Op name to index."""
        return {name: index for index, name in enumerate(self.op_names)}

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the content, on every platform."""
        state = hashlib.blake2b(digest_size=8)
        for item in fields(self):
            if item.name in _NOT_CONTENT:
                continue
            value = getattr(self, item.name)
            if item.name == "launches" and (value == 1).all():
                continue  # graphs from before launches were counted keep their digests
            state.update(item.name.encode())
            if isinstance(value, np.ndarray):
                state.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
            elif isinstance(value, tuple):
                text = "\n".join(value)
                state.update(text.encode())
                if text.count("\n") >= len(value):  # names hold line breaks: tell where they end
                    state.update(repr([len(part) for part in value]).encode())
            else:
                for key in sorted(value):
                    state.update(key.encode())
                    state.update(value[key].astype("<f8").tobytes())
        return state.hexdigest()

    def inputs_of(self, op: int) -> Int32[np.ndarray, " inputs"]:
        """Tensors that an op consumes, ascending."""
        edges = self.input_edges[self.input_offsets[op] : self.input_offsets[op + 1]]
        return self.edge_tensors[edges]

    def outputs_of(self, op: int) -> range:
        """Tensors that an op produces."""
        return range(int(self.output_offsets[op]), int(self.output_offsets[op + 1]))

    def consumers_of(self, tensor: int) -> Int32[np.ndarray, " readers"]:
        """Ops that consume a tensor, ascending."""
        return self.consumers[self.consumer_offsets[tensor] : self.consumer_offsets[tensor + 1]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, ops={self.op_count}, edges={self.edge_count}, {self.digest})"


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n+1"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _check_types(graph: Graph) -> None:
    for item in fields(graph):
        wanted = getattr(item.type, "dtypes", None)
        if wanted is None:
            continue
        value, rank = getattr(graph, item.name), len(item.type.dims)  # type: ignore[union-attr]
        if not isinstance(value, np.ndarray) or value.dtype.name not in wanted:
            given = getattr(value, "dtype", type(value).__name__)
            raise GraphError(f"{item.name} is {given}; it must be an array of {wanted[0]}")
        if value.ndim != rank:
            raise GraphError(f"{item.name} has {value.ndim} dimensions; it must have {rank}")
    for name, texts in (
        ("the name", (graph.name,)), ("op_names", graph.op_names), ("op_types", graph.op_types)
    ):  # fmt: skip
        try:
            "\n".join(texts).encode()
        except (TypeError, UnicodeEncodeError) as error:
            raise GraphError(f"{name} must be text that UTF-8 can hold ({error})") from error


def _check(graph: Graph) -> None:
    """Raise `GraphError` unless the arrays form a graph."""
    _check_types(graph)
    if graph.op_count == 0:
        raise GraphError(f"graph {graph.name!r} has no ops; a graph needs at least one")
    if len(graph.op_types) != graph.op_count:
        raise GraphError("op_types and op_names differ in length")
    if len(set(graph.op_names)) != graph.op_count:
        seen: set[str] = set()
        double = next(name for name in graph.op_names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise GraphError(f"op name {double!r} occurs more than once; names must be unique")
    per_op = ("kinds", "phases", "dtypes", "flops", "bytes_read", "bytes_written")
    for name in (
        *per_op,
        "resident_bytes",
        "workspace_bytes",
        "launches",
        "output_shapes",
        "colocation",
    ):
        if len(getattr(graph, name)) != graph.op_count:
            raise GraphError(
                f"{name} has {len(getattr(graph, name))} rows for {graph.op_count} ops"
            )
    for name in ("tensor_bytes", "tensor_storage", "tensor_alias_of"):
        if len(getattr(graph, name)) != graph.tensor_count:
            raise GraphError(f"{name} and tensor_producers differ in length")
    figures = ("flops", "bytes_read", "bytes_written", "resident_bytes", "workspace_bytes")
    for name in (*figures, "launches"):
        _check_figures(graph, name, getattr(graph, name), graph.op_names)
    _check_codes(graph)
    for device_kind, seconds in graph.profiled_seconds.items():
        if seconds.dtype != np.float64 or seconds.shape != (graph.op_count,):
            raise GraphError(f"profiled seconds for {device_kind!r} must be one float64 per op")
        if np.isnan(seconds).any() or (seconds < 0).any():
            raise GraphError(f"profiled seconds for {device_kind!r} must be one figure >= 0 per op")
    _check_tensors(graph)


def _check_codes(graph: Graph) -> None:
    for name, codes in (
        ("kinds", OpKind), ("phases", Phase), ("dtypes", DType), ("tensor_storage", Storage)
    ):  # fmt: skip
        largest = getattr(graph, name).max(initial=0)
        if largest > max(codes):
            raise GraphError(f"{name} hold {largest}; the largest known is {max(codes)}")
    if graph.output_shapes.shape[1] != SHAPE_RANK:
        raise GraphError(f"output_shapes must have {SHAPE_RANK} columns")
    if graph.colocation.min() < -1:
        raise GraphError(f"colocation holds {graph.colocation.min()}; -1 is no group")


def _check_figures(
    graph: Graph, label: str, values: np.ndarray, owners: tuple[str, ...] | None
) -> None:
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        owner = owners[bad[0]] if owners else f"tensor {bad[0]}"
        raise GraphError(
            f"graph {graph.name!r}: {label} of {owner!r} is {values[bad[0]]}; "
            "it must be finite and not negative"
        )


def _check_tensors(graph: Graph) -> None:
    producers, offsets = graph.tensor_producers, graph.consumer_offsets
    ends = (0, graph.edge_count)
    if len(offsets) != graph.tensor_count + 1 or (offsets[0], offsets[-1]) != ends:
        raise GraphError("consumer_offsets do not match tensors and consumers")
    if graph.tensor_count == 0:
        return
    _check_figures(graph, "tensor_bytes", graph.tensor_bytes, None)
    if (np.diff(offsets) < 0).any() or (np.diff(producers) < 0).any():
        raise GraphError("tensors must be sorted by producer, with ascending consumer offsets")
    if producers.min() < 0 or producers.max() >= graph.op_count:
        raise GraphError("a tensor's producer is not an op of the graph")
    if graph.edge_count:
        if graph.consumers.min() < 0 or graph.consumers.max() >= graph.op_count:
            raise GraphError("a tensor's consumer is not an op of the graph")
        backward = np.flatnonzero(graph.consumers <= producers[graph.edge_tensors])
        if backward.size:
            edge = int(backward[0])
            source, target = producers[graph.edge_tensors[edge]], graph.consumers[edge]
            raise GraphError(
                f"edge {graph.op_names[source]!r} -> {graph.op_names[target]!r} "
                "goes against the order of ops; ops must be topologically sorted"
            )
    edge_keys = graph.edge_tensors.astype(np.int64) * graph.op_count + graph.consumers
    if (np.diff(edge_keys) <= 0).any():
        raise GraphError("the consumers of a tensor must be ascending and without repeats")
    aliases = np.flatnonzero(graph.tensor_storage == Storage.ALIAS)
    if np.count_nonzero(graph.tensor_alias_of != -1) != aliases.size or (
        aliases.size and graph.tensor_alias_of[aliases].min() < 0
    ):
        raise GraphError("tensors of storage ALIAS, and only they, name the tensor they share")
    keys = np.append(edge_keys, -1)  # where no edge is as large, the search ends behind the last
    stray = np.flatnonzero(keys[graph.alias_edges[aliases]] != _alias_keys(graph)[aliases])
    if stray.size:
        owner = graph.op_names[producers[aliases[stray[0]]]]
        raise GraphError(f"an output of {owner!r} aliases a tensor that the op does not consume")


def _alias_keys(graph: Graph) -> Int64[np.ndarray, " tensors"]:
    return graph.tensor_alias_of.astype(np.int64) * graph.op_count + graph.tensor_producers
