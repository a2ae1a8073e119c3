"""Tensors inside `torch.vmap` show one row of many; here they get their batch dimensions back."""

from collections.abc import Mapping
from dataclasses import replace

from graphs.costs.work import TensorSpec
from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp

_ENTER, _LEAVE = "_add_batch_dim", "_remove_batch_dim"


def unbatched(exported: ExportedGraph) -> ExportedGraph:
    """The program with every tensor at its full size: batch dimensions lead, outermost first.

    Between entering and leaving a level, an op works on all rows at once, as one kernel.
    """
    if not any(op.target.endswith(_ENTER) for op in exported.ops):
        return exported
    levels: dict[str, dict[str, int]] = {}
    shown: dict[str, TensorSpec] = {**exported.inputs, **exported.weights}
    ops: list[ExportedOp] = []
    for op in exported.ops:
        batch: dict[str, int] = {}
        for name in op.inputs:
            batch.update(levels.get(name, {}))
        if op.target.endswith(_ENTER) and op.inputs and op.outputs:
            whole, row = shown[op.inputs[0]].elements, op.outputs[0][1].elements
            batch[str(op.attributes.get("2"))] = whole // max(row, 1) if row else 1
        elif op.target.endswith(_LEAVE):
            batch.pop(str(op.attributes.get("1")), None)
        shown.update(op.outputs)
        levels.update({name: batch for name, _ in op.outputs})
        outputs = [(name, _with_batch(spec, batch)) for name, spec in op.outputs]
        ops.append(replace(op, outputs=outputs) if batch else op)
    return replace(exported, ops=ops)


def _with_batch(spec: TensorSpec, batch: Mapping[str, int]) -> TensorSpec:
    sizes = tuple(batch[level] for level in sorted(batch))
    return TensorSpec((*sizes, *spec.shape), spec.dtype)
