"""A training step from a joint torch program: its forward and backward ops, and updates.

Parameters are variables, as in TensorFlow graphs: their value and the optimizer's slots are
resident on one device, with the update colocated, and readers elsewhere are sent the value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphs.builder import GraphBuilder, OpRecord
from graphs.costs.tensorflow_state import STATE_OPS
from graphs.costs.work import Signature
from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.importers.torch_models.graph import (
    ExportedGraph,
    ExportedOp,
    needed_ops,
    op_cost,
    op_record,
    source_record,
)
from graphs.kinds import OpKind, Phase, Storage


@dataclass(frozen=True)
class Gradients:
    """Which tensors of a joint program are what."""

    loss: str
    """The tensor that is minimised."""
    parameters: Mapping[str, str]
    """Placeholder to the parameter's name in the model."""
    of: Mapping[str, str]
    """Placeholder of a parameter to the tensor that holds its gradient."""


@dataclass(frozen=True)
class _Optimizer:
    """An update rule."""

    rule: str
    """The op of the cost table that does the same."""
    slots: int
    """Tensors as large as the parameter that are kept beside it."""


OPTIMIZERS: Mapping[str, _Optimizer] = {
    "sgd": _Optimizer("ResourceApplyGradientDescent", 0),
    "momentum": _Optimizer("ResourceApplyMomentum", 1),
    "adam": _Optimizer("ResourceApplyAdam", 2),
}


def build_training(
    exported: ExportedGraph,
    gradients: Gradients,
    optimizer: str,
    name: str,
    report: ImportReport,
) -> Graph:
    """Cost every operator, add the updates and freeze the graph.

    Ops that the loss depends on are the forward pass, all others the backward pass.

    Raises:
        ModelError: an unknown optimizer, no operators, or a tensor that nothing produces.
    """
    if optimizer not in OPTIMIZERS:
        raise ModelError(f"no optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
    rule = OPTIMIZERS[optimizer]
    builder = GraphBuilder(name)
    specs = {**exported.inputs, **exported.weights}
    kept, dropped = needed_ops(exported)
    read = {source for op in kept for source in op.inputs}
    for source, spec in exported.inputs.items():
        if source in read:
            builder.add(source_record(source, spec, "Input", OpKind.INPUT, Storage.BUFFER))
    for source in exported.weights:
        if source in read or source in gradients.of:
            builder.add(_weight(exported, source, gradients, rule))
    forward = _ancestors(kept, gradients.loss)
    estimates: dict[str, int] = {}
    composites: dict[str, int] = {}
    for op in kept:
        known = [specs[source] for source in op.inputs if source in specs]
        specs.update(op.outputs)
        kind, work = op_cost(op, known, estimates, composites)
        record = op_record(op, known, kind, work, {}, frozenset())
        phase = Phase.FORWARD if op.name in forward else Phase.BACKWARD
        builder.add(replace(record, phase=phase))
    for source, gradient in gradients.of.items():
        work = STATE_OPS[rule.rule].formula(Signature(rule.rule, [specs[gradient]], []))
        builder.add(
            OpRecord(
                name=f"{gradients.parameters[source]}/{optimizer}",
                op_type=f"torch.optim.{optimizer}",
                kind=OpKind.OPTIMIZER_UPDATE,
                inputs=[source, gradient],
                phase=Phase.UPDATE,
                dtype=specs[source].dtype,
                flops=work.flops,
                bytes_read=work.bytes_read,
                bytes_written=work.bytes_written,
                output_shape=specs[source].shape,
                colocation=source,
            )
        )
    notes = [*report.notes, f"Each gradient is applied by {optimizer}."]
    if dropped:
        notes.append(f"{dropped} calls reach no output, left out.")
    complete = replace(
        report,
        estimated_ops=dict(sorted(estimates.items())),
        composite_ops=dict(sorted(composites.items())),
        notes=tuple(notes),
    )
    return builder.build(complete)


def _weight(
    exported: ExportedGraph, source: str, gradients: Gradients, rule: _Optimizer
) -> OpRecord:
    """A trained parameter with its slots, or a buffer, which is copied wherever it is read."""
    spec = exported.weights[source]
    if source not in gradients.of:
        return source_record(source, spec, "Buffer", OpKind.VARIABLE, Storage.WEIGHT)
    record = source_record(source, spec, "Parameter", OpKind.VARIABLE, Storage.RESIDENT)
    return replace(
        record,
        name=gradients.parameters[source],
        resident_bytes=(1 + rule.slots) * spec.bytes,
        colocation=source,
    )


def _ancestors(ops: list[ExportedOp], tensor: str) -> set[str]:
    """Names of the ops that a tensor depends on."""
    wanted = {tensor}
    reached: set[str] = set()
    for op in reversed(ops):
        if any(name in wanted for name, _ in op.outputs):
            reached.add(op.name)
            wanted.update(op.inputs)
    return reached
