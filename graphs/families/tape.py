"""The tape that families write on: ops in topological order, costed by TensorFlow's table.

Layers append forward ops; `training_step` walks the tape back and appends their gradients. Costs
come from the same formulas as imported graphs'. A tape writes the arrays of a `Graph` directly,
which is several times faster than going through `GraphBuilder`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphs.costs.tensorflow_ops import TENSORFLOW_OPS
from graphs.costs.work import Signature, TensorSpec, Work
from graphs.families.values import NO_ATTRIBUTES, Attributes, Shape, TapeOp, TapeValue, Variable
from graphs.graph import SHAPE_RANK, Graph
from graphs.import_report import ImportReport
from graphs.kinds import DType, OpKind, Phase, Storage

#: Ops that choose rather than compute: nothing flows back through them.
_STOPS = frozenset({"TopKV2", "Where"})
_HANDLE = TensorSpec((), DType.RESOURCE)


class Tape:
    """A graph under construction; every method appends, nothing is ever changed."""

    def __init__(
        self,
        name: str,
        target_ops: int,
        training: bool,
        frozen_weights: bool = False,
        gradient_ops: Mapping[str, int] = NO_ATTRIBUTES,
        update_ops: int = 0,
    ) -> None:
        self.name = name
        self.target_ops = target_ops
        self.training = training
        self.frozen_weights = frozen_weights
        """Inference only: weights are constants, as in exported models, not variables."""
        self._gradient_ops = gradient_ops
        self._update_ops = update_ops
        self.nodes: list[TapeOp] = []
        self.variables: list[Variable] = []
        self.side_updates: list[int] = []
        """Ops that a step must run besides the optimizer's, such as moving averages."""
        self._later_ops = 0
        self._scope = ""
        self._phase = Phase.FORWARD
        self._groups = 0
        self._specs: dict[tuple[Shape, DType], TensorSpec] = {}
        self._works: dict[tuple[Any, ...], Work] = {}
        self._names: list[str] = []
        self._op_types: list[str] = []
        self._kinds: list[int] = []
        self._phases: list[int] = []
        self._dtypes: list[int] = []
        self._works_of: list[Work] = []
        self._resident: list[int] = []
        self._shapes: list[Shape] = []
        self._colocation: list[int] = []
        self._tensors: list[tuple[int, int, int, int]] = []
        self._edge_tensors: list[int] = []
        self._edge_consumers: list[int] = []
        self._controls: list[tuple[int, int]] = []

    @property
    def op_count(self) -> int:
        return len(self._names)

    @property
    def expected_ops(self) -> int:
        """About how many ops the finished graph had if the forward pass ended here."""
        return self.op_count + self._later_ops

    @property
    def progress(self) -> float:
        """The share of the target that is spoken for, gradients and updates to come included."""
        return self.expected_ops / self.target_ops

    def blocks(self, share: float = 1.0) -> Iterator[int]:
        """Count blocks, at least one, until another would overshoot this share of the target."""
        begun = self.expected_ops
        yield 0
        for count in itertools.count(1):
            next_block = (self.expected_ops - begun) / count
            if self.expected_ops + next_block / 2 >= share * self.target_ops:
                return
            yield count

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of ops within begin with `name/`."""
        outer = self._scope
        self._scope = f"{outer}{name}/"
        try:
            yield
        finally:
            self._scope = outer

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Ops within belong to this part of the step."""
        outer = self._phase
        self._phase = phase
        try:
            yield
        finally:
            self._phase = outer

    def new_group(self) -> int:
        """A colocation group that nothing is in yet."""
        self._groups += 1
        return self._groups - 1

    def group_of(self, op: int) -> int:
        """The op's colocation group; it gets one of its own if it has none."""
        if self._colocation[op] < 0:
            self._colocation[op] = self.new_group()
        return self._colocation[op]

    def kind_of(self, op: int) -> int:
        return self._kinds[op]

    def spec(self, shape: Shape, dtype: DType = DType.FLOAT32) -> TensorSpec:
        """The one `TensorSpec` of this shape and type on this tape."""
        known = self._specs.get((shape, dtype))
        if known is None:
            known = self._specs[shape, dtype] = TensorSpec(shape, dtype)
        return known

    def op(
        self,
        op_type: str,
        inputs: Sequence[TapeValue],
        shape: Shape | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        dtype: DType = DType.FLOAT32,
        group: int = -1,
        controls: Sequence[int] = (),
    ) -> TapeValue:
        """Append an op of one output; its shape is the first input's where none is given."""
        spec = inputs[0].spec if shape is None else self.spec(shape, dtype)
        (value,) = self.multi_op(
            op_type, inputs, (spec,), attributes, group=group, controls=controls
        )
        return value

    def multi_op(
        self,
        op_type: str,
        inputs: Sequence[TapeValue],
        outputs: Sequence[TensorSpec],
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        group: int = -1,
        controls: Sequence[int] = (),
        alias: bool = False,
        resident: int = 0,
        storage: Storage = Storage.BUFFER,
    ) -> tuple[TapeValue, ...]:
        """Append an op.

        Args:
            op_type: a TensorFlow op type of the cost table.
            inputs: what it reads, in the framework's order.
            outputs: its outputs; none for an op that only changes a variable.
            attributes: what its cost formula looks at.
            group: its colocation group, or -1.
            controls: ops that must have run.
            alias: the output shares the first input's buffer; views do so anyway.
            resident: bytes that it holds for the whole step.
            storage: of its outputs, unless they are views.
        """
        index = len(self._names)
        cost = TENSORFLOW_OPS[op_type]
        if cost.kind is OpKind.VIEW and inputs and storage is Storage.BUFFER:
            alias = True
        key = (
            op_type,
            *(id(value.spec) for value in inputs),
            None,
            *(id(spec) for spec in outputs),
            *(str(value) for value in attributes.values()),
        )
        work = self._works.get(key)
        if work is None:
            specs = [value.spec for value in inputs]
            work = cost.formula(Signature(op_type, specs, outputs, attributes))
            self._works[key] = work
        self._names.append(f"{self._scope}{op_type}_{index}")
        self._op_types.append(op_type)
        self._kinds.append(cost.kind)
        self._phases.append(self._phase)
        self._works_of.append(work)
        self._resident.append(resident)
        self._colocation.append(group)
        self._dtypes.append(outputs[0].dtype if outputs else DType.FLOAT32)
        self._shapes.append(outputs[0].shape if outputs else ())
        trained = False
        for value in inputs:
            self._edge_tensors.append(value.tensor)
            self._edge_consumers.append(index)
            trained = trained or value.trained
        trained = trained and op_type not in _STOPS
        for source in controls:
            self._controls.append((source, index))
        made = []
        shared = inputs[0].tensor if alias else -1
        where = Storage.ALIAS if alias else storage
        for spec in outputs:
            made.append(TapeValue(len(self._tensors), index, spec, trained))
            self._tensors.append((index, spec.bytes, where, shared))
        result = tuple(made)
        if trained and self._phase is Phase.FORWARD and self.training:
            node = TapeOp(op_type, tuple(inputs), result, attributes, self._scope)
            self.nodes.append(node)
            self._later_ops += self._gradient_ops[op_type]
        return result

    def constant(self, shape: Shape = (), dtype: DType = DType.INT32, group: int = -1) -> TapeValue:
        """A constant; it is resident wherever it is read."""
        spec = self.spec(shape, dtype)
        return self.multi_op("Const", (), (spec,), storage=Storage.WEIGHT, group=group)[0]

    def placeholder(self, shape: Shape, dtype: DType = DType.FLOAT32) -> TapeValue:
        """An input of the model."""
        return self.op("Placeholder", (), shape, dtype=dtype)

    def variable(self, name: str, shape: Shape, trained: bool = True) -> Variable:
        """A variable and its value, read once; a constant where weights are frozen."""
        spec = self.spec(shape)
        with self.scope(name):
            if self.frozen_weights:
                value = self.multi_op("Const", (), (spec,), storage=Storage.WEIGHT)[0]
                return Variable(name, value, value, -1)
            group = self.new_group()
            handle = self.handle(spec.bytes, group)
            read = self.read(handle, spec, group)
            value = self.op("Identity", (read,))
        value = value._replace(trained=trained)
        variable = Variable(f"{self._scope}{name}", handle, value, group)
        if trained:
            self.variables.append(variable)
            self._later_ops += self._update_ops
        return variable

    def handle(self, resident: int, group: int) -> TapeValue:
        """A variable or slot of so many bytes; reading it is another op."""
        return self.multi_op("VarHandleOp", (), (_HANDLE,), group=group, resident=resident)[0]

    def read(
        self, handle: TapeValue, spec: TensorSpec, group: int, controls: Sequence[int] = ()
    ) -> TapeValue:
        """The value of a variable, resident on its device."""
        (value,) = self.multi_op(
            "ReadVariableOp", (handle,), (spec,), storage=Storage.RESIDENT, group=group,
            controls=controls,
        )  # fmt: skip
        return value

    def weight(self, name: str, shape: Shape) -> TapeValue:
        """The value of a trained variable."""
        return self.variable(name, shape).value

    def graph(self) -> Graph:
        """Freeze the tape."""
        count = len(self._names)
        rows = np.array(self._tensors, np.int64).reshape(-1, 4)
        sources = sorted({source for source, _ in self._controls})
        first_control = len(rows)
        control_of = {source: first_control + i for i, source in enumerate(sources)}
        control_rows = np.zeros((len(sources), 4), np.int64)
        control_rows[:, 0] = sources
        control_rows[:, 2:] = (Storage.CONTROL, -1)
        rows = np.concatenate([rows, control_rows])
        waited = [control_of[source] for source, _ in self._controls]
        edge_tensors = np.array(self._edge_tensors + waited, np.int64)
        waiting = [target for _, target in self._controls]
        edge_consumers = np.array(self._edge_consumers + waiting, np.int64)
        order = np.argsort(rows[:, 0], kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows = rows[order]
        edges = np.unique(rank[edge_tensors] * count + edge_consumers)
        consumer_counts = np.bincount(edges // count, minlength=len(rows))
        works = np.array(
            [(w.flops, w.bytes_read, w.bytes_written) for w in self._works_of], np.float64
        )
        workspace = np.array([work.workspace_bytes for work in self._works_of], np.int64)
        return Graph(
            name=self.name,
            op_names=tuple(self._names),
            op_types=tuple(self._op_types),
            kinds=np.array(self._kinds, np.uint8),
            phases=np.array(self._phases, np.uint8),
            dtypes=np.array(self._dtypes, np.uint8),
            flops=works[:, 0].copy(),
            bytes_read=works[:, 1].copy(),
            bytes_written=works[:, 2].copy(),
            resident_bytes=np.array(self._resident, np.int64),
            workspace_bytes=workspace,
            launches=np.array([work.launches for work in self._works_of], np.int64),
            output_shapes=np.array([_pad(shape) for shape in self._shapes], np.int64),
            colocation=np.array(self._colocation, np.int32),
            tensor_producers=rows[:, 0].astype(np.int32),
            tensor_bytes=rows[:, 1].copy(),
            tensor_storage=rows[:, 2].astype(np.uint8),
            tensor_alias_of=np.where(rows[:, 3] >= 0, rank[rows[:, 3]], -1).astype(np.int32),
            consumer_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(consumer_counts)]),
            consumers=(edges % count).astype(np.int32),
            report=ImportReport(source_format="memory"),
        )


def _pad(shape: Shape) -> Shape:
    extra = len(shape) - SHAPE_RANK
    if extra > 0:
        return (int(np.prod(shape[: extra + 1])), *shape[extra + 1 :])
    return (1,) * -extra + shape
