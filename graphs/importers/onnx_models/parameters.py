"""Inputs of a model that are its parameters: stripped of their values, or handed in each step.

Two kinds of evidence count. Names such as `layers.0.attn.q_proj.weight` or `onnx::MatMul_123` are
what exporters give to stored tensors. And where a model stores next to nothing itself, at least
two large matrices of fixed size that are only transposed or cast and then multiplied from the
right, convolved with or looked up in are weights under whatever name. A model that hands updated
parameters back trains them: there they stay inputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto, ValueInfoProto

from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.dims import shape_of, tensor_type
from graphs.importers.onnx_models.topology import read_names
from graphs.importers.onnx_models.values import OnnxValue
from graphs.kinds import DType

#: A single name like this may be an accident; from so many on it is how the model was written.
_FEW = 2
_SMALLEST_MATRIX_BYTES = 1 << 14
_LEAVES = (
    "weight|weights|bias|biases|kernel|gamma|beta|running_mean|running_var|moving_mean|"
    "moving_variance|embedding|embeddings"
)
_PATH = re.compile(rf"[\w.:/-]*[./:]({_LEAVES})(:0)?$")
_EXPORTED = re.compile(r"onnx::(MatMul|Conv|ConvTranspose|Gemm|LSTM|GRU|RNN|Mul|Add)_\d+$")
_PLACEHOLDER = re.compile(rf"(p|b|param|params)_\w*_({_LEAVES})$")

_PASSING = frozenset({"Transpose", "Cast", "Identity", "DequantizeLinear", "Reshape"})
#: The operand that is a weight wherever one is.
_WEIGHT_OPERAND = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1, "Gather": 0}
_TRAINING_DOMAINS = frozenset({"ai.onnx.preview.training", "ai.onnx.training"})


@dataclass(frozen=True)
class ParameterInputs:
    """Inputs that are parameters, and what was made of them."""

    names: frozenset[str] = frozenset()
    """Taken for weights from here on."""
    note: str = ""
    """What the user is told; empty where there is nothing to tell."""


def find_parameters(
    inputs: Sequence[ValueInfoProto],
    values: Mapping[str, OnnxValue],
    nodes: Sequence[NodeProto],
    stored_bytes: int,
) -> ParameterInputs:
    """The inputs that are parameters by name or by use.

    Args:
        inputs: of the model, without those that have an initializer.
        values: the same by name, with all dimensions bound.
        nodes: all nodes.
        stored_bytes: what the model itself stores.
    """
    fixed = [value.name for value in inputs if _has_fixed_size(value, values[value.name])]
    named = {name for name in fixed if _is_parameter_name(name)}
    if len(named) < _FEW:
        named = set()
    sizes = {name: values[name].spec.bytes for name in fixed}
    used = _weights_by_use([n for n in fixed if sizes[n] >= _SMALLEST_MATRIX_BYTES], values, nodes)
    if len(used) < _FEW or stored_bytes * _FEW > sum(sizes[name] for name in used):
        used = set()
    found = named | used
    if not found or len(found) == len(inputs):
        return ParameterInputs()
    megabytes = sum(sizes[name] for name in found) / 1e6
    counted = f"{len(found)} inputs of {megabytes:.1f} MB together are parameters by their"
    why = " and ".join(t for t, some in (("names", named), ("use", used - named)) if some)
    if any(_is_training(node) for node in nodes):
        return ParameterInputs(
            note=f"{counted} {why}: this model trains what it is given, so that they count as "
            "inputs and not as resident weights."
        )
    return ParameterInputs(
        frozenset(found),
        f"{counted} {why}: they count as weights, resident where they are read and never sent.",
    )


def _has_fixed_size(value: ValueInfoProto, known: OnnxValue) -> bool:
    shape, tensor = shape_of(value.type), tensor_type(value.type)
    if shape is None or tensor is None or known.given_type is not None:
        return False
    floats = known.spec.dtype not in (DType.INT64, DType.STRING, DType.BOOL)
    return floats and all(dim.dim_value > 0 for dim in shape.dim)


def _is_parameter_name(name: str) -> bool:
    return any(form.match(name) for form in (_PATH, _EXPORTED, _PLACEHOLDER))


def _is_training(node: NodeProto) -> bool:
    foreign = standard_domain(node.domain)
    return foreign in _TRAINING_DOMAINS or (
        foreign == "com.microsoft" and ("Grad" in node.op_type or "Optimizer" in node.op_type)
    )


def _weights_by_use(
    names: Sequence[str], values: Mapping[str, OnnxValue], nodes: Sequence[NodeProto]
) -> set[str]:
    """Matrices and filters that every reader uses as such, however they get there."""
    origin = {name: name for name in names if len(values[name].spec.shape) in (2, 3, 4, 5)}
    spoilt: set[str] = set()
    used: set[str] = set()
    for node in nodes:
        for name in read_names(node):
            if name not in origin:
                continue
            source = origin[name]
            places = [place for place, given in enumerate(node.input) if given == name]
            op_type = "" if standard_domain(node.domain) else node.op_type
            if op_type in _PASSING and places == [0] and node.output:
                origin[node.output[0]] = source
            elif places == [_WEIGHT_OPERAND.get(op_type)] and _fits(
                op_type, len(values[source].spec.shape)
            ):
                used.add(source)
            else:
                spoilt.add(source)
    return used - spoilt


def _fits(op_type: str, rank: int) -> bool:
    """Products and tables have two dimensions, filters three to five."""
    return rank == 2 if op_type in ("MatMul", "Gemm", "Gather") else rank > 2
