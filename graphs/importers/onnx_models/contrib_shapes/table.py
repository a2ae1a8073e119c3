"""All shape rules of foreign ops by domain and op type."""

from collections.abc import Mapping

from graphs.costs.onnx_contrib import ONNXRUNTIME_STANDARD_OPS
from graphs.importers.onnx_models.contrib_shapes.attention import ATTENTION_RULES
from graphs.importers.onnx_models.contrib_shapes.elementwise import ELEMENTWISE_RULES
from graphs.importers.onnx_models.contrib_shapes.products import PRODUCT_RULES
from graphs.importers.onnx_models.contrib_shapes.rules import (
    Attributes,
    Inputs,
    Outputs,
    Rule,
    like,
)
from graphs.importers.onnx_models.contrib_shapes.training import TRAINING_RULES
from graphs.importers.onnx_models.contrib_shapes.twins import NCHWC, NCHWC_RULES

#: What a rule raises on inputs that do not fit it; the shape then stays unknown.
_RULE_ERRORS = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    ZeroDivisionError,
    OverflowError,
    AttributeError,
)

_MICROSOFT: Mapping[str, Rule] = {
    **ELEMENTWISE_RULES,
    **PRODUCT_RULES,
    **ATTENTION_RULES,
    **TRAINING_RULES,
}

#: What onnxruntime adds to the standard domain, and what onnx's oldest versions infer nothing for.
_STANDARD: Mapping[str, Rule] = {
    **dict.fromkeys(ONNXRUNTIME_STANDARD_OPS, like(0)),
    "LayerNormalization": ELEMENTWISE_RULES["LayerNormalization"],
    "SimplifiedLayerNormalization": ELEMENTWISE_RULES["SimplifiedLayerNormalization"],
    "Dropout": TRAINING_RULES["Dropout"],
}

RULES: Mapping[str, Mapping[str, Rule]] = {
    "": _STANDARD,
    "ai.onnx.preview.training": TRAINING_RULES,
    "com.microsoft": _MICROSOFT,
    NCHWC: NCHWC_RULES,
}


def contrib_outputs(domain: str, op_type: str, inputs: Inputs, attributes: Attributes) -> Outputs:
    """Shapes and types of a foreign op's outputs, as far as there is a rule."""
    rule = RULES.get(domain, {}).get(op_type)
    if rule is None:
        return []
    # Sizes are counted: where a fraction stands for one, the rule finds nothing.
    counted = {name: value for name, value in attributes.items() if not isinstance(value, float)}
    try:
        return rule(inputs, counted)
    except _RULE_ERRORS:
        return []
