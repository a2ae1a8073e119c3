"""Sizes that TensorFlow cannot infer: from what the file says, else estimated from the data."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod

from graphs.costs.work import TensorSpec
from graphs.importers.dimensions import ASSUMED_IMAGE_SIDE
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode, int_attribute
from graphs.importers.tensorflow_models.values import Values
from graphs.kinds import DType

Dims = Sequence[int | None] | None
"""A shape as TensorFlow infers it: None for an unknown size, or for an unknown rank."""

_VARIABLES = frozenset(
    {"Const", "VarHandleOp", "ReadVariableOp", "VariableV2", "Variable", "ImmutableConst"}
)
_FOUND = frozenset({"Where", "Unique", "UniqueV2", "UniqueWithCounts", "UniqueWithCountsV2"})
_IMAGES = frozenset({"DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeAndCropJpeg"})
#: Ops that are told their result's shape, and the input that tells it.
_SHAPED_BY = {"Fill": 0, "Empty": 0, "Reshape": 1, "BroadcastTo": 1, "RandomUniform": 0,
              "RandomStandardNormal": 0, "TruncatedNormal": 0}  # fmt: skip
_COUNTED_BY = {"NonMaxSuppression": 2, "NonMaxSuppressionWithOverlaps": 2,
               "NonMaxSuppressionV2": 2, "NonMaxSuppressionV3": 2, "NonMaxSuppressionV4": 2,
               "NonMaxSuppressionV5": 2}  # fmt: skip


def weights_among(nodes: Mapping[str, TensorflowNode]) -> frozenset[str]:
    """Nodes that depend on constants and variables alone."""
    weights: set[str] = set()
    for node in nodes.values():  # readers of weights stand behind them, or are found again below
        if node.op_type in _VARIABLES:
            weights.add(node.name)
    grown = True
    while grown:
        size = len(weights)
        for node in nodes.values():
            if node.inputs and all(name in weights for name, _ in node.inputs):
                weights.add(node.name)
        grown = len(weights) > size
    return frozenset(weights)


def followers(
    nodes: Mapping[str, TensorflowNode], sources: Set[str], around: bool
) -> frozenset[str]:
    """Nodes that depend on one of the sources; with `around` also by the next round of a loop."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        if around or node.op_type not in {"NextIteration", "RefNextIteration"}:
            for name, _ in node.inputs:
                readers.setdefault(name, []).append(node.name)
    reached: set[str] = set()
    todo = list(sources)
    while todo:
        for reader in readers.get(todo.pop(), ()):
            if reader not in reached:
                reached.add(reader)
                todo.append(reader)
    return frozenset(reached)


def declared_dims(node: TensorflowNode, number: int) -> Dims:
    """What the attribute `_output_shapes` says of an output; None where it says nothing."""
    if "_output_shapes" not in node.definition.attr:
        return None
    shapes = node.definition.attr["_output_shapes"].list.shape
    if number >= len(shapes) or shapes[number].unknown_rank:
        return None
    return [int(dim.size) if dim.size >= 0 else None for dim in shapes[number].dim]


def merged(first: Dims, second: Dims) -> Dims:
    """What two sources say together; the first counts where they contradict each other."""
    if first is None or second is None:
        return second if first is None else first
    if len(first) != len(second):
        return first
    return [b if a is None else a for a, b in zip(first, second, strict=True)]


def contradict(first: Dims, second: Dims) -> bool:
    """Whether no shape can be both."""
    if first is None or second is None:
        return False
    return len(first) != len(second) or any(
        a is not None and b is not None and a != b for a, b in zip(first, second, strict=True)
    )


@dataclass(frozen=True)
class Estimator:
    """Estimates of unknown sizes where all inputs of the op are known."""

    nodes: Mapping[str, TensorflowNode]
    weights: frozenset[str]
    """Nodes that depend on constants and variables alone: no size comes from them."""
    values: Values
    batch: int
    """Size of a leading dimension that no operand has."""

    def shape(
        self,
        node: TensorflowNode,
        number: int,
        dims: Dims,
        inputs: Sequence[TensorSpec | None],
    ) -> tuple[int, ...] | None:
        """The estimated shape of an output; None where nothing speaks for any.

        Args:
            dims: as far as it is known.
            inputs: specs of the op's inputs; None for unknown ones.
        """
        value = self.values.of((node.name, number))
        if value is not None:
            return tuple(value.shape)
        if node.op_type in _SHAPED_BY:
            target = self.values.of(node.inputs[_SHAPED_BY[node.op_type]])
            if target is not None and target.ndim == 1 and (target >= 0).all():
                return tuple(int(size) for size in target)
        searched = inputs[0] if inputs else None
        if node.op_type in _FOUND and number == 0 and searched is not None:
            return (searched.elements, *(size or 1 for size in (dims or (None,))[1:]))
        if node.op_type in _IMAGES:
            return (ASSUMED_IMAGE_SIDE, ASSUMED_IMAGE_SIDE, 3)
        if node.op_type in _COUNTED_BY and searched is not None and dims is not None:
            chosen = self.values.integer(node.inputs[_COUNTED_BY[node.op_type]])
            boxes = searched.shape[0]
            return tuple(size or min(chosen or boxes, boxes) for size in dims)
        if node.op_type == "Range" and dims is not None:
            counted = self.values.of((node.name, number))
            return (len(counted) if counted is not None else self.batch,)
        if node.op_type == "Merge" and number == 0:
            known = [spec for spec in inputs if spec is not None]
            return max((s.shape for s in known), key=prod, default=None)
        if node.op_type == "Reshape" and dims is not None and searched is not None:
            return self._reshaped(dims, searched)
        if node.op_type == "StridedSlice" and searched is not None:
            return self._sliced(node, dims, searched)
        data = [spec for (name, _), spec in zip(node.inputs, inputs, strict=True)
                if name not in self.weights and spec is not None
                and spec.dtype is not DType.RESOURCE]  # fmt: skip
        if dims is None:
            return data[0].shape if data else None
        alike = next((spec.shape for spec in data if len(spec.shape) == len(dims)), None)
        if alike is not None:
            return tuple(b if a is None else a for a, b in zip(dims, alike, strict=True))
        return tuple(
            size if size is not None else self.batch if axis == 0 else 1
            for axis, size in enumerate(dims)
        )

    def _sliced(
        self, node: TensorflowNode, dims: Dims, source: TensorSpec
    ) -> tuple[int, ...] | None:
        """A slice is at most the whole, without the axes of which it takes one element."""
        taken = int_attribute(node.definition, "shrink_axis_mask")
        moved = ("new_axis_mask", "ellipsis_mask")
        if any(int_attribute(node.definition, mask) for mask in moved):
            return None if dims is None else completed(dims, self.batch)
        rest = [size for axis, size in enumerate(source.shape) if not taken >> axis & 1]
        known = dims if dims is not None and len(dims) == len(rest) else [None] * len(rest)
        return tuple(b if a is None else a for a, b in zip(known, rest, strict=True))

    def _reshaped(self, dims: Sequence[int | None], source: TensorSpec) -> tuple[int, ...]:
        """A reshaped tensor has the elements that it had: the first unknown size has the rest."""
        rest = source.elements // max(prod(size for size in dims if size is not None), 1)
        sizes = []
        for size in dims:
            sizes.append(rest if size is None else size)
            if size is None:
                rest = 1
        return tuple(sizes)


def completed(dims: Dims, batch: int) -> tuple[int, ...]:
    """The last resort: a leading size is the batch's, another 1, an unknown rank 0."""
    return tuple(
        size if size is not None else batch if axis == 0 else 1
        for axis, size in enumerate(dims or ())
    )


@dataclass(frozen=True)
class Pin:
    """A shape that is stated to TensorFlow's inference."""

    shape: tuple[int, ...]
    dtype_enum: int
    """TensorFlow's number of the element type."""

    @property
    def elements(self) -> int:
        return prod(self.shape)


def pin_name(endpoint: Endpoint) -> str:
    """The node that states a tensor's shape to TensorFlow's inference."""
    return f"{endpoint[0]}/graphwright_shape_{endpoint[1]}"
