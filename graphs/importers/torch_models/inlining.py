"""Regions of a torch program that only say how to run their ops are replaced by those ops.

`no_grad`, autocast, activation checkpoints and nested compile regions are higher-order operators
with one body that runs once. Loops and branches stay calls: `loops` counts how often they run.
"""

from collections.abc import Mapping
from dataclasses import replace

from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp
from graphs.importers.torch_models.loops import REPEATED, SCORED


def inlined(exported: ExportedGraph) -> ExportedGraph:
    """The program with the bodies of such regions in their place, also nested ones.

    Tensors of a body get the name of the region's first result as a prefix; ops keep theirs, which
    say their module, with a number where the name is taken.
    """
    names = {op.name for op in exported.ops if _region(op) is None}
    standing: dict[str, str] = {}
    ops: list[ExportedOp] = []
    for op in exported.ops:
        _place(_renamed(op, standing), ops, standing, names)
    return replace(
        exported,
        ops=ops,
        outputs=[standing.get(name, name) for name in exported.outputs],
        mutations={standing.get(name, name): to for name, to in exported.mutations.items()},
    )


def _place(
    op: ExportedOp, ops: list[ExportedOp], standing: dict[str, str], names: set[str]
) -> None:
    """Append a call, or what its body does; `standing` learns what its results have become."""
    body = _region(op)
    if body is None:
        ops.append(replace(op, bodies=[inlined(body) for body in op.bodies]))
        return
    inner = dict(zip(body.inputs, op.inputs, strict=True))
    prefix = f"{op.outputs[0][0] if op.outputs else op.name}/"
    for call in body.ops:
        renamed = _renamed(call, inner)
        name = call.name
        if _region(call) is None:
            name = _free_name(name, names)
            names.add(name)
        outputs = [(prefix + output, spec) for output, spec in call.outputs]
        nested: dict[str, str] = {}
        _place(replace(renamed, name=name, outputs=outputs), ops, nested, names)
        for output, _ in call.outputs:
            inner[output] = nested.get(prefix + output, prefix + output)
    for (name, _), result in zip(op.outputs, body.outputs, strict=False):
        standing[name] = inner.get(result, result)


def _region(op: ExportedOp) -> ExportedGraph | None:
    """The body that a call runs once on what it is given; None for any other call."""
    if not op.bodies or op.base_name in REPEATED or op.base_name in SCORED:
        return None
    if len(op.bodies) > 1 and op.base_name != "autograd_function_apply":
        return None
    body = op.bodies[0]
    fits = len(body.inputs) == len(op.inputs) and len(body.outputs) >= len(op.outputs)
    return body if fits else None


def _renamed(op: ExportedOp, standing: Mapping[str, str]) -> ExportedOp:
    """The call with its operands under the names that they have now."""
    if not any(name in standing for name in op.inputs):
        return op
    return replace(
        op,
        inputs=[standing.get(name, name) for name in op.inputs],
        written=[standing.get(name, name) for name in op.written],
        arguments=[
            (label, [standing.get(name, name) for name in group]) for label, group in op.arguments
        ],
    )


def _free_name(name: str, names: set[str]) -> str:
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}#{number}"
    return free
