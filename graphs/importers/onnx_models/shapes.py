"""Shapes of ONNX tensors, one node after the other, with every assumption on record.

With all inputs bound, shapes are plain numbers: onnx infers a node's outputs from the shapes of
its inputs and from small constants, which are evaluated on the way. Where that ends (ops whose
output size depends on data, ops without a schema), rules for known foreign ops, then the model's
own annotations, then a stated assumption take over.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.onnx_models.constants import FOLDABLE, evaluate
from graphs.importers.onnx_models.context import ImportContext, standard_domain
from graphs.importers.onnx_models.contrib_shapes.rules import optional
from graphs.importers.onnx_models.contrib_shapes.table import contrib_outputs
from graphs.importers.onnx_models.contrib_shapes.twins import standard_twin
from graphs.importers.onnx_models.dims import stated_dims, tensor_type
from graphs.importers.onnx_models.guesses import check_declared, check_types, mark_guessed
from graphs.importers.onnx_models.sequences import sequence_outputs
from graphs.importers.onnx_models.values import OnnxValue, checked_spec, constant_value

Inputs = Sequence[OnnxValue | None]

_AXIS_WORDS = ("axis", "axes", "perm")

#: What onnx's inference raises on a node that breaks its schema or whose shapes do not fit.
_INFERENCE_ERRORS = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
)


def infer_outputs(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    attributes: Mapping[str, Any],
    context: ImportContext,
) -> dict[str, OnnxValue]:
    """The values of a node's outputs, by name; absent outputs are left out.

    Raises:
        ModelError: the node breaks its schema, or the shapes of its inputs do not fit.
    """
    known = _evaluate(node, inputs, attributes)
    if known is not None and len(known) == len(node.output):
        return {name: value for name, value in zip(node.output, known, strict=True) if name}
    elements = sequence_outputs(node, inputs, attributes)
    if elements is not None:
        return {name: v for name, v in zip(node.output, elements, strict=False) if name}
    schema = context.schema(node.domain, node.op_type)
    check_types(node, label, inputs, schema, context)
    types = _infer(node, label, inputs, attributes, context)
    outputs = {
        name: _fill_open_parts(name, types.get(name), inputs, context)
        for name in node.output
        if name
    }
    return mark_guessed(node, label, inputs, outputs, schema, context)


def _evaluate(
    node: NodeProto, inputs: Inputs, attributes: Mapping[str, Any]
) -> list[OnnxValue] | None:
    """The outputs themselves, where they are small and known before the model runs."""
    if standard_domain(node.domain) or not inputs:
        return None
    first = inputs[0]
    assumed = any(value is not None and value.assumed for value in inputs)
    if first is not None and first.given_type is None and node.op_type in ("Shape", "Size"):
        shape = first.spec.shape
        if node.op_type == "Size":
            answer = np.array(first.spec.elements, np.int64)
        else:
            answer = np.array(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)
        return [constant_value(answer, assumed=assumed, shape_like=True)]
    if node.op_type not in FOLDABLE:
        return None
    if any(value is not None and value.constant is None for value in inputs):
        return None
    arrays = evaluate(node.op_type, [v.constant if v else None for v in inputs], attributes)
    if arrays is None:
        return None
    shape_like = any(value is not None and value.shape_like for value in inputs)
    return [constant_value(array, assumed=assumed, shape_like=shape_like) for array in arrays]


def _infer(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    attributes: Mapping[str, Any],
    context: ImportContext,
) -> dict[str, TypeProto]:
    """Types by onnx's inference, and by own rules where it tells nothing."""
    schema = context.schema(node.domain, node.op_type)
    _refuse_stray_numbers(node, label, inputs, attributes, context)
    inferred = {} if schema is None else _by_schema(schema, node, label, inputs, context)
    if all(_complete(inferred.get(name)) for name in node.output if name):
        return inferred
    outputs = contrib_outputs(standard_domain(node.domain), node.op_type, inputs, attributes)
    for name, known in zip(node.output, outputs, strict=False):
        if known is not None and not _complete(inferred.get(name)):
            inferred[name] = helper.make_tensor_type_proto(known[1], known[0])
    if schema is None:
        inferred = inferred or _by_twin(node, label, inputs, attributes, context)
        for name, kind in inferred.items():
            check_declared(name, kind, stated_dims(kind, {}), context)
    return inferred


def _by_twin(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    attributes: Mapping[str, Any],
    context: ImportContext,
) -> dict[str, TypeProto]:
    """Types of a foreign op by the standard op that it resembles."""
    twin = standard_twin(standard_domain(node.domain), node.op_type)
    schema = None if twin is None else context.newest_schema(twin.op_type)
    if twin is None or schema is None:
        return {}
    given = twin.given(inputs, attributes)
    stand_for = NodeProto(op_type=twin.op_type, output=node.output)
    stand_for.input.extend("" if value is None else f"input_{i}" for i, value in enumerate(given))
    stand_for.attribute.extend(item for item in node.attribute if item.name in schema.attributes)
    try:
        inferred = _by_schema(schema, stand_for, label, given, context)
    except ModelError:  # it resembles the standard op less than was thought
        return {}
    types: dict[str, TypeProto] = {}
    for name, kind in inferred.items():
        tensor, dims = tensor_type(kind), stated_dims(kind, {})
        if tensor is None or dims is None or None in dims:
            continue
        source = None if twin.typed_like is None else optional(inputs, twin.typed_like)
        elem_type = tensor.elem_type if source is None else source.elem_type
        sizes = twin.result([size or 0 for size in dims], attributes)
        types[name] = helper.make_tensor_type_proto(elem_type, sizes)
    return types


def _refuse_stray_numbers(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    attributes: Mapping[str, Any],
    context: ImportContext,
) -> None:
    """Raise `ModelError` for axes and counts that onnx's inference would use unchecked."""
    rank = max((len(value.spec.shape) for value in inputs if value), default=0)
    for name, given in attributes.items():
        numbers = given if isinstance(given, list) else [given]
        if any(word in name for word in _AXIS_WORDS):
            bound = rank + max(len(numbers), 1)
            stray = any(isinstance(n, int) and not -bound <= n <= bound for n in numbers)
        else:
            stray = name == "num_outputs" and given != len(node.output)
        if stray:
            raise ModelError(
                f"{context.origin}: op {label!r} has {name}={given} on inputs of rank {rank} "
                f"and {len(node.output)} outputs"
            )


def _by_schema(
    schema: onnx.defs.OpSchema,
    node: NodeProto,
    label: str,
    inputs: Inputs,
    context: ImportContext,
) -> dict[str, TypeProto]:
    named = {name: value for name, value in zip(node.input, inputs, strict=True) if value}
    types = {name: value.type for name, value in named.items()}
    data = {
        name: numpy_helper.from_array(value.constant, name)
        for name, value in named.items()
        if value.constant is not None
    }
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, node, types, data, None, context.opset_imports, context.ir_version
        )
        if schema.has_function or schema.has_context_dependent_function:
            inferred |= _inferred_from_function(node, types, data, inferred, context)
    except _INFERENCE_ERRORS as error:
        if any(value.assumed for value in named.values()):
            for name in (name for name, value in named.items() if value.assumed):
                context.contradict(name, label, "does not fit the shape that was assumed")
            return {}
        shapes = ", ".join(str(list(value.spec.shape)) for value in inputs if value)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ModelError(
            f"{context.origin}: op {label!r} ({node.op_type}) does not fit its inputs of shape "
            f"{shapes}: {reason}{_assumptions(context)}"
        ) from error
    return inferred


def _assumptions(context: ImportContext) -> str:
    if not context.assumed_dims:
        return ""
    listed = ", ".join(f"{name}={size}" for name, size in context.assumed_dims.items())
    return f" (assumed dimensions: {listed}; state the right sizes, as in --dim NAME=SIZE)"


def _inferred_from_function(
    node: NodeProto,
    types: Mapping[str, TypeProto],
    data: Mapping[str, TensorProto],
    found: Mapping[str, TypeProto],
    context: ImportContext,
) -> dict[str, TypeProto]:
    """Ops that onnx defines by a body of simpler ops have no inference of their own."""
    missing = [name for name in node.output if name and not _complete(found.get(name))]
    if not missing:
        return {}
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_value_info(name, kind) for name, kind in types.items()],
        [onnx.ValueInfoProto(name=name) for name in missing],
        list(data.values()),
    )
    model = helper.make_model(
        graph, opset_imports=context.opset_imports, ir_version=context.ir_version
    )
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {value.name: value.type for value in inferred.graph.output if value.HasField("type")}


def _complete(kind: TypeProto | None) -> bool:
    dims = None if kind is None else stated_dims(kind, {})
    return dims is not None and all(size is not None and size >= 0 for size in dims)


def _fill_open_parts(
    name: str, kind: TypeProto | None, inputs: Inputs, context: ImportContext
) -> OnnxValue:
    """Fill what inference left open from annotations, else by assumption."""
    assumed = any(value is not None and value.assumed for value in inputs)
    tensor = None if kind is None else tensor_type(kind)
    elem_type = 0 if tensor is None else tensor.elem_type
    dims = None if kind is None else stated_dims(kind, {})
    stated_type, stated = context.declared.get(name, (0, None))
    elem_type = elem_type or stated_type or context.settled_types.get(name, 0)
    guessed_type = not elem_type
    if stated is not None and (dims is None or (None in dims and len(dims) == len(stated))):
        open_dims = dims or [None] * len(stated)
        dims = [a if a is not None else b for a, b in zip(open_dims, stated, strict=True)]
        context.annotated += None not in dims
    if not elem_type:
        present = next((value for value in inputs if value is not None), None)
        elem_type = present.elem_type if present is not None else int(TensorProto.FLOAT)
    if dims is None or None in dims:
        dims = list(_assumption(dims, inputs))
        assumed = True
        context.unknown_shapes.append(name)
    spec = checked_spec(name, [size or 0 for size in dims], elem_type)
    plain = kind is None or kind.WhichOneof("value") in (None, "tensor_type")
    if not plain:
        context.note("Sequences of unknown length count as one of their tensors.")
    return OnnxValue(
        spec,
        elem_type,
        assumed=assumed,
        guessed_type=guessed_type,
        given_type=None if plain else kind,
    )


def _assumption(dims: Sequence[int | None] | None, inputs: Inputs) -> tuple[int, ...]:
    """The size of the first input: its shape, or open dimensions that make as many elements."""
    first = next((value.spec for value in inputs if value is not None), TensorSpec(()))
    if dims is None:
        return first.shape
    if len(dims) == len(first.shape):
        return tuple(b if a is None else a for a, b in zip(dims, first.shape, strict=True))
    stated = prod(size for size in dims if size)
    remaining = max(first.elements // max(stated, 1), 1)
    filled: list[int] = []
    for size in dims:
        filled.append(remaining if size is None else size)
        remaining = 1 if size is None else remaining
    return tuple(filled)
