"""What one ONNX node costs: its kind, its work and the values of its outputs."""

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto

from graphs.costs.onnx_ops import ESTIMATE, estimate_work, onnx_cost, refined_kind
from graphs.costs.work import FORMULA_ERRORS, OpCost, Signature, TensorSpec, Work, repeated
from graphs.errors import ModelError
from graphs.importers.onnx_models.context import ImportContext, standard_domain
from graphs.importers.onnx_models.control_flow import BodyCost, Composite, run_control_flow
from graphs.importers.onnx_models.folding import is_folded
from graphs.importers.onnx_models.shapes import infer_outputs
from graphs.importers.onnx_models.topology import bodies_of
from graphs.importers.onnx_models.values import (
    SMALL_ELEMENTS,
    TINY_BYTES,
    OnnxValue,
    checked_spec,
    constant_node_value,
    sparse_value,
    stored_value,
)
from graphs.kinds import DType, OpKind, Phase

Scope = MutableMapping[str, OnnxValue]

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})

#: Whole models in one op: compiled for a device, or a decoder with the search around it.
OPAQUE_OPS = frozenset(
    ("com.microsoft", name)
    for name in (
        "EPContext", "Snpe", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch",
    )
)  # fmt: skip

#: What steers control flow, a condition or a counter, is at most so large.
_HOST_BYTES = 8

_FLOATS = frozenset(
    {
        DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64, DType.FLOAT8,
        DType.COMPLEX64, DType.COMPLEX128,
    }
)  # fmt: skip
_BY_FIRST_INPUT = frozenset(
    {OpKind.MATMUL, OpKind.CONV, OpKind.DEPTHWISE_CONV, OpKind.GATHER, OpKind.RECURRENT}
)


@dataclass(frozen=True)
class NodeAnalysis:
    """One node, ready to become an op."""

    kind: OpKind
    work: Work
    outputs: Mapping[str, OnnxValue]
    dtype: DType
    phase: Phase
    inner_bytes: int = 0
    """Weights that live inside a control-flow body."""
    folded: bool = False
    """Whether it is computed once, when the model is loaded."""


def analyse_node(
    node: NodeProto,
    label: str,
    scope: Scope,
    context: ImportContext,
    *,
    may_fold: bool = True,
) -> NodeAnalysis:
    """Infer a node's outputs and cost it.

    Args:
        node: any node but `Constant`.
        label: the op's unique name, for messages.
        scope: the values of every tensor it may read.
        context: collects what had to be assumed.
        may_fold: whether it may be computed once, when the model is loaded.

    Raises:
        ModelError: an input is unknown, or the node does not fit its inputs.
    """
    inputs = [_look_up(name, label, scope, context) if name else None for name in node.input]
    attributes = attributes_of(node, context.attribute_types(node.domain, node.op_type))
    domain = standard_domain(node.domain)
    phase = _phase(node.op_type, domain)
    specs = [spec for value in inputs if value is not None for spec in value.specs]
    if domain == "" and node.op_type in CONTROL_FLOW_OPS:

        def run(body: GraphProto, given: Mapping[str, OnnxValue]) -> BodyCost:
            return analyse_body(body, given, scope, context)

        composite = run_control_flow(node, label, inputs, attributes, context, run)
        return _composite_analysis(composite, specs, phase)
    outputs = infer_outputs(node, label, inputs, attributes, context)
    signature = Signature(node.op_type, specs, _specs_of(outputs), attributes)
    cost = _training_dropout(node, inputs) or onnx_cost(domain, node.op_type)
    title = f"{domain}.{node.op_type}" if domain else node.op_type
    if may_fold and cost is not None and is_folded(node, cost.kind, outputs, scope):
        known = {name: replace(value, fixed=True) for name, value in outputs.items()}
        dtype = _compute_dtype(cost.kind, signature)
        return NodeAnalysis(cost.kind, Work(), known, dtype, phase, folded=True)
    if outputs and all(value.shape_like for value in outputs.values()):
        return NodeAnalysis(OpKind.SHAPE, Work(), outputs, DType.INT64, phase)
    if cost is None:
        context.estimated[title] += 1
        cost = ESTIMATE
    try:
        work = cost.formula(signature)
    except FORMULA_ERRORS:
        context.estimated[title] += 1
        work = estimate_work(signature)
    hidden = 0
    if (domain, node.op_type) in OPAQUE_OPS:
        context.opaque[title] += 1
        hidden = _hidden_bytes(node)
    kind = refined_kind(cost, signature)
    phase = Phase.UPDATE if kind == OpKind.OPTIMIZER_UPDATE else phase
    return NodeAnalysis(kind, work, outputs, _compute_dtype(kind, signature), phase, hidden)


def _hidden_bytes(node: NodeProto) -> int:
    """What an opaque op holds: weights of its bodies, and a compiled model as text."""
    held = sum(
        checked_spec(tensor.name, tensor.dims, tensor.data_type).bytes
        for _, body in bodies_of(node)
        for tensor in body.initializer
    )
    return held + sum(len(a.s) for a in node.attribute if a.name == "ep_cache_context")


def _specs_of(values: Mapping[str, OnnxValue]) -> list[TensorSpec]:
    """Every tensor; a sequence is all of its tensors."""
    return [spec for value in values.values() for spec in value.specs]


def _composite_analysis(
    composite: Composite, inputs: list[TensorSpec], phase: Phase
) -> NodeAnalysis:
    signature = Signature("", inputs, _specs_of(composite.outputs))
    return NodeAnalysis(
        OpKind.CONTROL_FLOW,
        replace(composite.work, launches=max(composite.work.launches, 1)),
        {name: replace(value, fixed=False) for name, value in composite.outputs.items()},
        _compute_dtype(OpKind.CONTROL_FLOW, signature),
        phase,
        composite.resident_bytes,
    )


def analyse_body(
    body: GraphProto,
    given: Mapping[str, OnnxValue],
    outer: Scope,
    context: ImportContext,
) -> BodyCost:
    """The cost of one pass through a control-flow body and the values of its outputs.

    An output that is only handed on, or is a view, is copied to where the next trip or the caller
    reads it: a kernel of its own. Truth values and counters are the host's.
    """
    scope: Scope = ChainMap({}, outer)
    resident = collect_weights(body, scope, context)
    scope.update(given)
    inner = 0
    parts: list[Work] = []
    makers: dict[str, OpKind] = {}
    for index, node in enumerate(body.node):
        if node.op_type == "Constant" and not standard_domain(node.domain):
            for name in node.output:
                value = constant_node_value(node, context.folder)
                scope[name] = replace(value, fixed=True)
                resident += value.spec.bytes if value.spec.bytes > TINY_BYTES else 0
            continue
        label = node.name or next(iter(node.output), f"{node.op_type}_{index}")
        result = analyse_node(node, label, scope, context)
        scope.update(result.outputs)
        if result.folded:
            context.folded[node.op_type] += 1
        parts.append(result.work)
        makers.update(dict.fromkeys(result.outputs, result.kind))
        resident += result.inner_bytes
        inner += result.inner_bytes
    outputs = [_look_up(value.name, body.name, scope, context) for value in body.output]
    parts += [
        Work(0.0, value.spec.bytes, value.spec.bytes)
        for item, value in zip(body.output, outputs, strict=True)
        if value.spec.bytes > _HOST_BYTES
        and makers.get(item.name, OpKind.VIEW) in (OpKind.VIEW, OpKind.CONSTANT)
    ]
    context.body_bytes += resident - inner
    return BodyCost(repeated(parts), resident, outputs)


def collect_weights(graph: GraphProto, scope: Scope, context: ImportContext) -> int:
    """Enter a graph's initializers into a scope; returns their bytes.

    Raises:
        ModelError: two of them have the same name.
    """
    values = [(tensor.name, stored_value(tensor, context.folder)) for tensor in graph.initializer]
    values += [(s.values.name, sparse_value(s)) for s in graph.sparse_initializer]
    entered: set[str] = set()
    for name, value in values:
        if name in entered:
            raise ModelError(f"{context.origin}: weight {name!r} is declared more than once")
        entered.add(name)
        scope[name] = replace(value, fixed=True)
    return sum(value.spec.bytes for _, value in values)


def attributes_of(node: NodeProto, types: Mapping[str, int]) -> dict[str, Any]:
    """A node's attributes as plain Python values; bodies are left out.

    Args:
        node: any node.
        types: what its op's attributes must be; one of another type is left out as well.
    """
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if types.get(attribute.name, attribute.type) != attribute.type:
            continue
        match attribute.type:
            case AttributeProto.INT:
                attributes[attribute.name] = attribute.i
            case AttributeProto.INTS:
                attributes[attribute.name] = list(attribute.ints)
            case AttributeProto.FLOAT:
                attributes[attribute.name] = attribute.f
            case AttributeProto.FLOATS:
                attributes[attribute.name] = list(attribute.floats)
            case AttributeProto.STRING:
                attributes[attribute.name] = attribute.s.decode("utf-8", "replace")
            case AttributeProto.STRINGS:
                attributes[attribute.name] = [
                    s.decode("utf-8", "replace") for s in attribute.strings
                ]
            case AttributeProto.TENSOR:
                small = len(attribute.t.dims) <= 1 and sum(attribute.t.dims) <= SMALL_ELEMENTS
                attributes[attribute.name] = (
                    stored_value(attribute.t, None, attribute.name).constant if small else None
                )
    return attributes


def _look_up(name: str, label: str, scope: Scope, context: ImportContext) -> OnnxValue:
    value = scope.get(name)
    if value is None:
        raise ModelError(
            f"{context.origin}: op {label!r} consumes tensor {name!r}, which nothing produces; "
            "every input must come from an op or a model input"
        )
    return value


def _training_dropout(node: NodeProto, inputs: list[OnnxValue | None]) -> OpCost | None:
    """`Dropout` draws random numbers only where its third input says that it trains."""
    if node.op_type != "Dropout" or node.domain or len(inputs) < 3 or inputs[2] is None:
        return None
    mode = inputs[2].constant
    return (
        None if mode is not None and not mode.any() else onnx_cost("com.microsoft", "BiasDropout")
    )


def _phase(op_type: str, domain: str) -> Phase:
    if domain in ("com.microsoft", "ai.onnx.preview.training") and (
        "Grad" in op_type and op_type != "Adagrad"
    ):
        return Phase.BACKWARD
    return Phase.FORWARD


def _compute_dtype(kind: OpKind, signature: Signature) -> DType:
    """The type that arithmetic runs in: quantised products in their operands' own."""
    if kind in _BY_FIRST_INPUT and signature.inputs:
        return signature.inputs[0].dtype
    tensors = [*signature.inputs, *signature.outputs]
    floats = [tensor.dtype for tensor in tensors if tensor.dtype in _FLOATS]
    return next(iter(floats or [tensor.dtype for tensor in tensors]), DType.FLOAT32)
