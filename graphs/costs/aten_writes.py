"""Work of ATen ops that write a part of their first argument in place.

They move what they write. Their functional forms make a new tensor, so they move the whole of it.
"""

from math import prod

from graphs.costs.onnx_movement import filling
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import DType, OpKind


def _written(op: Signature, elements: int, read: int, adds: bool = False) -> Work:
    """Writes `elements` of the target, after reading them where the values are added to them."""
    target = op.inputs[0]
    size = min(elements, target.elements) * target.dtype.element_bytes
    return Work(float(elements) if adds else 0.0, read + (size if adds else 0), size)


def _rows(adds: bool) -> Formula:
    """`index_copy_(target, dim, index, source)`: as many elements as the source has."""

    def formula(op: Signature) -> Work:
        return _written(op, op.inputs[-1].elements, _others(op), adds)

    return formula


def _index_fill(op: Signature) -> Work:
    """`index_fill_(target, dim, index, value)`: whole slices along a dimension."""
    target, index = op.inputs[0], op.inputs[1]
    along = target.shape[op.attributes["dim"]] if target.shape else 1
    elements = index.elements * (target.elements // max(along, 1))
    return _written(op, elements, index.bytes)


def _scatter(adds: bool) -> Formula:
    """`scatter_(target, dim, index, source)`: an element for each index, of a source as large."""

    def formula(op: Signature) -> Work:
        index = op.inputs[1]
        values = min(sum(tensor.bytes for tensor in op.inputs[2:]),
                     index.elements * op.inputs[0].dtype.element_bytes)  # fmt: skip
        return _written(op, index.elements, index.bytes + int(values), adds)

    return formula


def _index_put(op: Signature) -> Work:
    """`index_put_(target, indices, values)`: what the indices pick, at most the whole target."""
    target, *indices, values = op.inputs
    masks = [index for index in indices if index.dtype is DType.BOOL]
    picked = max((index.elements for index in indices), default=1)
    taken = sum(len(index.shape) if index in masks else 1 for index in indices)
    elements = max(values.elements, picked * prod(target.shape[taken:]))
    return _written(op, elements, _others(op), op.flag("accumulate"))


def _masked_scatter(op: Signature) -> Work:
    """`masked_scatter_(target, mask, source)`: no more than mask and source have."""
    mask, source = op.inputs[1], op.inputs[2]
    return _written(op, min(mask.elements, source.elements), mask.bytes + source.bytes)


def _copying(op: Signature) -> Work:
    """`copy_(target, source)`: the source may be smaller, broadcast, or of another type."""
    return Work(0.0, op.inputs[-1].bytes, op.output_bytes)


def _others(op: Signature) -> int:
    return sum(tensor.bytes for tensor in op.inputs[1:])


ATEN_WRITES: dict[str, OpCost] = {
    "copy_": OpCost(OpKind.ELEMENTWISE, _copying),
    "fill_": OpCost(OpKind.BROADCAST, filling),
    "zero_": OpCost(OpKind.BROADCAST, filling),
    "index_copy_": OpCost(OpKind.SCATTER, _rows(adds=False)),
    "index_add_": OpCost(OpKind.SCATTER, _rows(adds=True)),
    "index_reduce_": OpCost(OpKind.SCATTER, _rows(adds=True)),
    "index_fill_": OpCost(OpKind.SCATTER, _index_fill),
    "index_put_": OpCost(OpKind.SCATTER, _index_put),
    "_index_put_impl_": OpCost(OpKind.SCATTER, _index_put),
    "put_": OpCost(OpKind.SCATTER, _rows(adds=False)),
    "scatter_": OpCost(OpKind.SCATTER, _scatter(adds=False)),
    "scatter_add_": OpCost(OpKind.SCATTER, _scatter(adds=True)),
    "scatter_reduce_": OpCost(OpKind.SCATTER, _scatter(adds=True)),
    "masked_scatter_": OpCost(OpKind.SCATTER, _masked_scatter),
}
