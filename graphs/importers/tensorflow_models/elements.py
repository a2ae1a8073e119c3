"""What stacks, TensorArrays and TensorLists hold: what is read has the shape of what is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graphs.costs.work import TensorSpec
from graphs.importers.tensorflow_models.dtypes import dtype_of
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode, int_attribute
from graphs.importers.tensorflow_models.values import PASSES, Values
from graphs.kinds import DType

_DEEPEST = 200
#: Ops that put items into a list, and the input that is one item.
_ITEM_INPUTS = {"TensorListSetItem": 2, "TensorListPushBack": 1}
#: Ops that make a list of a tensor's rows, and that tensor.
_ROW_INPUTS = {"TensorListFromTensor": 0, "TensorListScatter": 0, "TensorListScatterV2": 0,
               "TensorListScatterIntoExistingList": 1, "TensorListSplit": 0}  # fmt: skip
_EMPTY_LISTS = frozenset({"TensorListReserve", "EmptyTensorList"})
#: Ops that write into an array or a stack, what they write, and whether it is one item.
_WRITERS = {"TensorArrayWriteV3": (2, True), "TensorArrayScatterV3": (2, False),
            "TensorArraySplitV3": (1, False), "StackPushV2": (1, True)}  # fmt: skip
_HANDLES = frozenset({"TensorArrayV3", "TensorArrayGradV3", "StackV2"})
#: Ops that return items: the output that is one item.
_ITEM_OUTPUTS = {"TensorListGetItem": 0, "TensorListPopBack": 1, "TensorArrayReadV3": 0,
                 "StackPopV2": 0}  # fmt: skip
#: Ops that return items side by side, and the input that says which.
_STACKED = {"TensorListStack": None, "TensorListGather": 1, "TensorArrayGatherV3": 1}
READERS = frozenset(_ITEM_OUTPUTS) | frozenset(_STACKED)


@dataclass
class Elements:
    """Specs of what the handles of one graph or function body hold."""

    nodes: Mapping[str, TensorflowNode]
    spec: Callable[[Endpoint], TensorSpec | None]
    """The spec of a tensor; None where it is not known."""
    values: Values
    written_in: Callable[[TensorflowNode, int], TensorSpec | None]
    """What the body of a loop puts into the list that is its result of a number."""
    batch: int
    given: Mapping[str, TensorSpec] = field(default_factory=dict)
    """What a body's arguments hold."""
    _writers: dict[str, list[TensorSpec]] | None = None

    def read(self, node: TensorflowNode) -> tuple[int, TensorSpec] | None:
        """The output of a reading op that is made of items, and its spec, if that is known."""
        item = self.of(node.inputs[0])
        if item is None:
            return None
        if node.op_type in _ITEM_OUTPUTS:
            return _ITEM_OUTPUTS[node.op_type], item
        position = _STACKED[node.op_type]
        if position is not None:
            indices = self.spec(node.inputs[position])
            count = indices.elements if indices is not None else None
            if count is None:
                chosen = self.values.of(node.inputs[position])
                count = None if chosen is None else chosen.size
        else:
            count = int_attribute(node.definition, "num_elements")
            if count <= 0:
                count = self.values.integer(self._made(node.inputs[0]))
        return None if count is None else (0, TensorSpec((count, *item.shape), item.dtype))

    def of(self, handle: Endpoint, depth: int = 0) -> TensorSpec | None:
        """The spec of one item behind a handle; None where nothing says it."""
        name, number = handle
        if name in self.given:
            return self.given[name]
        node = self.nodes.get(name)
        if node is None or depth > _DEEPEST:
            return None
        kind = node.op_type
        if kind in _ITEM_INPUTS:
            return self.spec(node.inputs[_ITEM_INPUTS[kind]]) or self.of(node.inputs[0], depth + 1)
        if kind in _ROW_INPUTS:
            return _row(self.spec(node.inputs[_ROW_INPUTS[kind]]))
        if kind in _EMPTY_LISTS:
            return self._declared(node)
        if kind in _HANDLES:
            written = self._written().get(self._root(handle))
            return written[0] if written else self._attribute(node)
        if kind in {"While", "StatelessWhile"}:
            return self.written_in(node, number) or self.of(node.inputs[number], depth + 1)
        if node.inputs and (kind in PASSES or kind == "Merge" or kind.startswith("TensorList")):
            return self.of(node.inputs[0], depth + 1)
        return None

    def _root(self, handle: Endpoint) -> str:
        """The op that made an array or a stack; gradients' arrays count as what they mirror."""
        name = handle[0]
        for _ in range(_DEEPEST):
            node = self.nodes.get(name)
            if node is None or not node.inputs or node.op_type in {"TensorArrayV3", "StackV2"}:
                break
            name = node.inputs[0][0]
        return name

    def _made(self, handle: Endpoint) -> Endpoint:
        """The op that made a list, behind what was done to it."""
        for _ in range(_DEEPEST):
            node = self.nodes[handle[0]]
            if node.op_type in _EMPTY_LISTS or node.op_type in _ROW_INPUTS or not node.inputs:
                break
            while_loop = node.op_type in {"While", "StatelessWhile"}
            handle = node.inputs[handle[1] if while_loop else 0]
        return handle

    def _written(self) -> dict[str, list[TensorSpec]]:
        if self._writers is None:
            self._writers = {}
            for node in self.nodes.values():
                if node.op_type in _WRITERS:
                    position, single = _WRITERS[node.op_type]
                    spec = self.spec(node.inputs[position])
                    item = spec if single else _row(spec)
                    if item is not None:
                        self._writers.setdefault(self._root(node.inputs[0]), []).append(item)
        return self._writers

    def _declared(self, node: TensorflowNode) -> TensorSpec | None:
        """The element shape that a list is made with; its open leading size is the batch's."""
        shape = self.values.of(node.inputs[0])
        if shape is None or shape.ndim != 1:
            return None
        return self._opened([int(size) for size in shape],
                            dtype_of(node.definition.attr["element_dtype"].type))  # fmt: skip

    def _attribute(self, node: TensorflowNode) -> TensorSpec | None:
        if "element_shape" not in node.definition.attr:
            return None
        declared = node.definition.attr["element_shape"].shape
        if declared.unknown_rank:
            return None
        return self._opened([int(dim.size) for dim in declared.dim],
                            dtype_of(node.definition.attr["dtype"].type))  # fmt: skip

    def _opened(self, sizes: list[int], dtype: DType) -> TensorSpec | None:
        if any(size < 0 for size in sizes[1:]):
            return None
        return TensorSpec(tuple(self.batch if size < 0 else size for size in sizes), dtype)


def _row(spec: TensorSpec | None) -> TensorSpec | None:
    return TensorSpec(spec.shape[1:], spec.dtype) if spec is not None and spec.shape else None
