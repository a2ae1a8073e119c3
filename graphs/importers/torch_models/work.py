"""What the calls of an exported program cost, loops and branches included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphs.costs.aten_ops import TRAINING_DROPOUT, aten_cost, without_underscore
from graphs.costs.onnx_ops import ESTIMATE, estimate_work, refined_kind
from graphs.costs.work import FORMULA_ERRORS, OpCost, Signature, TensorSpec, Work
from graphs.import_report import ImportReport
from graphs.importers.torch_models.calls import DROPOUTS, ExportedGraph, ExportedOp
from graphs.importers.torch_models.loops import SCORED, control_flow_work
from graphs.kinds import OpKind

#: Operators that run what was compiled elsewhere: their work cannot be read.
_OPAQUE = (
    "triton_kernel_wrapper", "executorch_call_delegate", "aoti_call_delegate", "call_torchbind",
    "inductor_compiled_code", "call_delegate", "invoke_leaf_function",
)  # fmt: skip


@dataclass
class Tally:
    """What had to be assumed while costing."""

    estimates: Counter[str] = field(default_factory=Counter)
    composites: Counter[str] = field(default_factory=Counter)
    opaque: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    """What was assumed of composite ops, and of how many."""

    def report(self, before: ImportReport, notes: Sequence[str]) -> ImportReport:
        """The report with what was tallied; `notes` follow those that it has."""
        remarks = [f"{remark} ({count} of them)." for remark, count in self.remarks.items()]
        return replace(
            before,
            estimated_ops=dict(sorted(self.estimates.items())),
            composite_ops=dict(sorted(self.composites.items())),
            opaque_ops=dict(sorted(self.opaque.items())),
            notes=(*before.notes, *notes, *remarks),
        )


def op_cost(op: ExportedOp, specs: Mapping[str, TensorSpec], tally: Tally) -> tuple[OpKind, Work]:
    """Kind and work of a call; `tally` counts what has no formula or is more than one op."""
    known = [specs[source] for source in op.inputs if source in specs]
    if op.bodies and op.base_name not in SCORED:
        tally.composites[op.target] += 1
        works = [_body_works(body, tally) for body in op.bodies]
        work, remark = control_flow_work(op, specs, works)
        if remark is not None:
            tally.remarks[remark] += 1
        return OpKind.CONTROL_FLOW, work
    base = op.base_name
    results = [spec for _, spec in op.outputs] or [specs[name] for name in op.written]
    signature = Signature(base, known, results, op.attributes)
    training = without_underscore(base) in DROPOUTS and bool(op.attributes.get("train"))
    cost: OpCost | None = TRAINING_DROPOUT if training else aten_cost(base)
    if base.startswith(_OPAQUE):
        tally.opaque[op.target] += 1
        return OpKind.CUSTOM, estimate_work(signature)
    if cost is None:
        tally.estimates[op.target] += 1
        return OpKind.CUSTOM, estimate_work(signature)
    try:
        work = cost.formula(signature)
        if op.bodies:
            work = _scored(op, work, known, tally)
    except FORMULA_ERRORS:
        tally.estimates[op.target] += 1
        work = ESTIMATE.formula(signature)
    attributes = {**op.attributes, "group": op.attributes.get("groups", 1)}
    return refined_kind(cost, replace(signature, attributes=attributes)), work


def _scored(op: ExportedOp, work: Work, known: Sequence[TensorSpec], tally: Tally) -> Work:
    """`flex_attention`: the functions on scores run once for each pair of query and key."""
    query, key = known[0].shape, known[1].shape
    pairs = known[0].elements // max(query[-1], 1) * key[-2]
    flops = sum(part.flops for body in op.bodies for part in _body_works(body, tally))
    tally.remarks["Flex attention counts every score, for what a block mask skips is data"] += 1
    return replace(work, flops=work.flops + pairs * flops)


def _body_works(body: ExportedGraph, tally: Tally) -> list[Work]:
    specs = {**body.inputs, **body.weights}
    works = []
    for op in body.ops:
        if op.outputs or op.written:
            works.append(op_cost(op, specs, tally)[1])
            specs.update(op.outputs)
    return works
