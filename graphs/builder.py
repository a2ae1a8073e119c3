"""Collects ops in any order and turns them into a `Graph`."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphs.errors import ModelError
from graphs.graph import SHAPE_RANK, Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage


@dataclass(frozen=True)
class OutputTensor:
    """One output of an op under construction."""

    name: str
    bytes: int
    storage: Storage = Storage.BUFFER
    alias_of: str | None = None
    """For storage `ALIAS`: the name of the input whose buffer the output shares."""


@dataclass(frozen=True)
class OpRecord:
    """One op under construction; inputs refer to tensors, control inputs to ops, by name."""

    name: str
    op_type: str
    kind: OpKind
    inputs: Sequence[str] = ()
    outputs: Sequence[OutputTensor] = ()
    control_inputs: Sequence[str] = ()
    phase: Phase = Phase.FORWARD
    dtype: DType = DType.FLOAT32
    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    resident_bytes: int = 0
    workspace_bytes: int = 0
    launches: int = 1
    output_shape: Sequence[int] = ()
    colocation: str | None = None
    """Ops that name the same group must share a device."""


@dataclass
class GraphBuilder:
    """Collects `OpRecord`s; `build` orders, checks and freezes them."""

    name: str
    records: list[OpRecord] = field(default_factory=list)

    def add(self, record: OpRecord) -> None:
        self.records.append(record)

    def build(
        self,
        report: ImportReport,
        profiled_seconds: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Graph:
        """Order the ops and return the graph.

        Among ops that are ready the one added first comes first, so a file that is already
        in order keeps it.

        Args:
            report: what the importer assumed.
            profiled_seconds: device kind to op name to measured seconds.

        Raises:
            ModelError: no ops, a repeated op or tensor name, an input that nothing produces,
                a cycle, a view of what its op does not read, or a size beyond 64 bits.
            GraphError: a negative or infinite figure.
        """
        records = self.records
        if not records:
            raise ModelError(f"{self.name!r} has no ops; a model needs at least one")
        producer_of = self._producers()
        index_of = {record.name: index for index, record in enumerate(records)}
        inputs = [self._input_ops(record, producer_of, index_of) for record in records]
        order = self._topological_order(inputs)
        try:
            return _freeze(self.name, [records[i] for i in order], report, profiled_seconds or {})
        except OverflowError as error:
            raise ModelError(
                f"{self.name!r}: a size does not fit into 64 bits ({error}); check the shapes"
            ) from error

    def _producers(self) -> dict[str, int]:
        producer_of: dict[str, int] = {}
        names: set[str] = set()
        for index, record in enumerate(self.records):
            if record.name in names:
                raise ModelError(
                    f"{self.name!r}: op name {record.name!r} occurs more than once; "
                    "op names must be unique"
                )
            names.add(record.name)
            for output in record.outputs:
                if output.name in producer_of:
                    first = self.records[producer_of[output.name]].name
                    raise ModelError(
                        f"{self.name!r}: tensor {output.name!r} is produced by both {first!r} "
                        f"and {record.name!r}; each tensor needs exactly one producer"
                    )
                producer_of[output.name] = index
        return producer_of

    def _input_ops(
        self, record: OpRecord, producer_of: Mapping[str, int], index_of: Mapping[str, int]
    ) -> set[int]:
        members: set[int] = set()
        for names, where, what in (
            (record.inputs, producer_of, "tensor"),
            (record.control_inputs, index_of, "op"),
        ):
            for name in names:
                if name not in where:
                    raise ModelError(
                        f"{self.name!r}: op {record.name!r} consumes {what} {name!r}, which "
                        "nothing produces; every input must come from an op or a model input"
                    )
                members.add(where[name])
        for output in record.outputs:
            if output.alias_of is not None and output.alias_of not in record.inputs:
                raise ModelError(
                    f"{self.name!r}: output {output.name!r} of op {record.name!r} is a view of "
                    f"{output.alias_of!r}, which the op does not consume"
                )
        return members

    def _topological_order(self, inputs: Sequence[set[int]]) -> list[int]:
        readers: list[list[int]] = [[] for _ in inputs]
        for index, sources in enumerate(inputs):
            for source in sources:
                readers[source].append(index)
        missing = [len(sources) for sources in inputs]
        ready = [index for index, count in enumerate(missing) if count == 0]
        order: list[int] = []
        while ready:
            index = heapq.heappop(ready)
            order.append(index)
            for reader in readers[index]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    heapq.heappush(ready, reader)
        if len(order) < len(inputs):
            stuck = {index for index, count in enumerate(missing) if count > 0}
            names = [self.records[i].name for i in _find_cycle(stuck, inputs)]
            shown = " -> ".join(repr(name) for name in names[:6]) + (" ..." if names[6:] else "")
            raise ModelError(
                f"{self.name!r} has a cycle through {shown}; a dataflow graph must be acyclic"
            )
        return order


def _find_cycle(stuck: set[int], inputs: Sequence[set[int]]) -> list[int]:
    """Walk producers among ops that never became ready until one repeats."""
    path: list[int] = []
    position: dict[int, int] = {}
    node = min(stuck)
    while node not in position:
        position[node] = len(path)
        path.append(node)
        node = min(source for source in inputs[node] if source in stuck)
    return [*reversed(path[position[node] :]), path[-1]]


def _padded_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Right-align to four dimensions; more than four merge into the first."""
    dims = [int(size) for size in shape]
    if len(dims) > SHAPE_RANK:
        head = dims[: len(dims) - SHAPE_RANK + 1]
        dims = [int(np.prod(head, dtype=np.int64)), *dims[len(head) :]]
    return tuple([1] * (SHAPE_RANK - len(dims)) + dims)


def _freeze(
    name: str,
    records: Sequence[OpRecord],
    report: ImportReport,
    profiled_seconds: Mapping[str, Mapping[str, float]],
) -> Graph:
    tensor_of: dict[str, int] = {}
    tensor_rows: list[tuple[int, OutputTensor]] = []
    position = {record.name: index for index, record in enumerate(records)}
    controls: dict[int, set[int]] = {}
    for index, record in enumerate(records):
        for source in record.control_inputs:
            controls.setdefault(position[source], set()).add(index)
    control_tensors: list[tuple[int, set[int]]] = []
    for index, record in enumerate(records):
        for output in record.outputs:
            tensor_of[output.name] = len(tensor_rows)
            tensor_rows.append((index, output))
        if index in controls:
            control_tensors.append((len(tensor_rows), controls[index]))
            tensor_rows.append((index, OutputTensor("", 0, Storage.CONTROL)))
    readers: list[set[int]] = [set() for _ in tensor_rows]
    for index, record in enumerate(records):
        for source in record.inputs:
            readers[tensor_of[source]].add(index)
    for tensor, control_readers in control_tensors:
        readers[tensor] = control_readers
    consumers = [reader for tensor in readers for reader in sorted(tensor)]
    counts = np.array([len(tensor) for tensor in readers], np.int64)
    groups = {key: i for i, key in enumerate(_shared_groups(records))}
    return Graph(
        name=name,
        op_names=tuple(record.name for record in records),
        op_types=tuple(record.op_type for record in records),
        kinds=np.array([record.kind for record in records], np.uint8),
        phases=np.array([record.phase for record in records], np.uint8),
        dtypes=np.array([record.dtype for record in records], np.uint8),
        flops=np.array([record.flops for record in records], np.float64),
        bytes_read=np.array([record.bytes_read for record in records], np.float64),
        bytes_written=np.array([record.bytes_written for record in records], np.float64),
        resident_bytes=np.array([record.resident_bytes for record in records], np.int64),
        workspace_bytes=np.array([record.workspace_bytes for record in records], np.int64),
        launches=np.array([record.launches for record in records], np.int64),
        output_shapes=np.array([_padded_shape(r.output_shape) for r in records], np.int64),
        colocation=np.array([groups.get(r.colocation or "", -1) for r in records], np.int32),
        tensor_producers=np.array([row for row, _ in tensor_rows], np.int32),
        tensor_bytes=np.array([tensor.bytes for _, tensor in tensor_rows], np.int64),
        tensor_storage=np.array([tensor.storage for _, tensor in tensor_rows], np.uint8),
        tensor_alias_of=np.array(
            [-1 if t.alias_of is None else tensor_of[t.alias_of] for _, t in tensor_rows], np.int32
        ),
        consumer_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        consumers=np.array(consumers, np.int32),
        profiled_seconds={
            device_kind: np.array([seconds[record.name] for record in records], np.float64)
            for device_kind, seconds in profiled_seconds.items()
        },
        report=report,
    )


def _shared_groups(records: Sequence[OpRecord]) -> list[str]:
    """Colocation groups with at least two members, in order of first appearance."""
    sizes: dict[str, int] = {}
    for record in records:
        if record.colocation:
            sizes[record.colocation] = sizes.get(record.colocation, 0) + 1
    return [key for key, size in sizes.items() if size > 1]
