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
from graphs.importers.torch_models.calls import ExportedGraph, ExportedOp
from graphs.importers.torch_models.graph import (
    costed_record,
    dataflow,
    needed_ops,
    source_record,
    weight_record,
)
from graphs.importers.torch_models.work import Tally
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
    results = exported.outputs
    exported = dataflow(exported)
    gradients = _renamed(gradients, dict(zip(results, exported.outputs, strict=True)))
    builder = GraphBuilder(name)
    specs = {**exported.inputs, **exported.weights}
    kept, dropped = needed_ops(exported)
    read = {source for op in kept for source in (*op.inputs, *op.carried)}
    for source, spec in exported.inputs.items():
        if source in read:
            record = source_record(source, spec, "Input", OpKind.INPUT, Storage.BUFFER)
            builder.add(replace(record, colocation=exported.groups.get(source)))
    for source in exported.weights:
        if source in read or source in gradients.of:
            builder.add(_weight(exported, source, gradients, rule))
    forward = _ancestors(kept, gradients.loss)
    tally = Tally()
    for op in kept:
        record = costed_record(op, specs, tally, {}, frozenset())
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
    notes = [f"Each gradient is applied by {optimizer}."]
    if dropped:
        notes.append(f"{dropped} calls reach no output, left out.")
    return builder.build(tally.report(report, notes))


def _weight(
    exported: ExportedGraph, source: str, gradients: Gradients, rule: _Optimizer
) -> OpRecord:
    """A trained parameter with its slots, or a buffer, which is copied wherever it is read."""
    spec = exported.weights[source]
    if source not in gradients.of:
        return weight_record(exported, source, "Buffer")
    record = source_record(source, spec, "Parameter", OpKind.VARIABLE, Storage.RESIDENT)
    return replace(
        record,
        name=gradients.parameters[source],
        resident_bytes=(1 + rule.slots) * spec.bytes,
        colocation=source,
    )


def _renamed(gradients: Gradients, now: Mapping[str, str]) -> Gradients:
    """The same tensors under the names that they have as results of the dataflow."""
    return replace(
        gradients,
        loss=now.get(gradients.loss, gradients.loss),
        of={source: now.get(tensor, tensor) for source, tensor in gradients.of.items()},
    )


def _ancestors(ops: list[ExportedOp], tensor: str) -> set[str]:
    """Names of the ops that a tensor depends on."""
    wanted = {tensor}
    reached: set[str] = set()
    for op in reversed(ops):
        made = [*(name for name, _ in op.outputs), *(version.name for version in op.versions)]
        if not wanted.isdisjoint(made):
            reached.add(op.name)
            wanted.update(op.inputs)
            wanted.update(op.carried)
    return reached
