"""Costs of TensorFlow's elementwise ops, in flops per element of the output.

An addition, multiplication, comparison or selection is 1; a division or square root 4; an
exponential, logarithm or trigonometric function 10; a power 20 (a logarithm, an exponential).
"""

from collections.abc import Mapping

from graphs.costs.formulas import (
    DIVISION,
    POWER,
    SIMPLE,
    TRANSCENDENTAL,
    free,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

_WEIGHTS = {
    SIMPLE: (
        "Add", "AddV2", "Sub", "Mul", "MulNoNan", "Neg", "Abs", "Sign", "Square", "Maximum",
        "Minimum", "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual",
        "LogicalAnd", "LogicalOr", "LogicalNot", "Select", "SelectV2", "Floor", "Ceil", "Round",
        "Rint", "Real", "Imag", "Conj", "IsFinite", "IsNan", "IsInf", "BitwiseAnd", "BitwiseOr",
        "BitwiseXor", "Invert", "LeftShift", "RightShift", "ApproximateEqual", "CheckNumerics",
    ),
    2.0: ("SquaredDifference", "ClipByValue", "Betainc", "NextAfter"),
    DIVISION: (
        "Div", "RealDiv", "DivNoNan", "FloorDiv", "TruncateDiv", "FloorMod", "Mod", "TruncateMod",
        "Reciprocal", "Inv", "Sqrt", "Rsqrt", "Complex", "ComplexAbs",
    ),
    TRANSCENDENTAL: (
        "Exp", "Expm1", "Log", "Log1p", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Atan2",
        "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Lgamma", "Digamma", "Angle", "Ndtri",
        "Erfinv", "Xlogy", "Xlog1py", "Xdivy", "BesselI0e", "BesselI1e",
    ),
    POWER: ("Pow", "Igamma", "Igammac", "Zeta", "Polygamma"),
}  # fmt: skip

_ACTIVATIONS = {
    SIMPLE: ("Relu", "ReluGrad"),
    2.0: ("Relu6", "Relu6Grad", "LeakyRelu", "LeakyReluGrad", "SqrtGrad", "RsqrtGrad",
          "ReciprocalGrad", "InvGrad"),
    3.0: ("TanhGrad", "SigmoidGrad"),
    TRANSCENDENTAL: ("Tanh", "Sigmoid", "Erf", "Erfc", "Elu", "EluGrad", "Selu", "SeluGrad",
                     "Softplus", "SoftplusGrad", "Softsign", "SoftsignGrad"),
}  # fmt: skip


def _sum_of_all(op: Signature) -> Work:
    """`AddN`: one addition per element and input after the first."""
    return streaming(float(op.outputs[0].elements * max(len(op.inputs) - 1, 0)), op)


def _cast(op: Signature) -> Work:
    return streaming(0.0, op)


ELEMENTWISE_OPS: Mapping[str, OpCost] = {
    **{
        name: OpCost(OpKind.ELEMENTWISE, per_output_element(weight))
        for weight, names in _WEIGHTS.items()
        for name in names
    },
    **{
        name: OpCost(OpKind.ACTIVATION, per_output_element(weight))
        for weight, names in _ACTIVATIONS.items()
        for name in names
    },
    **dict.fromkeys(("AddN", "AccumulateNV2"), OpCost(OpKind.ACCUMULATE, _sum_of_all)),
    "Cast": OpCost(OpKind.CAST, _cast),
    "Bitcast": OpCost(OpKind.VIEW, free),
    "L2Loss": OpCost(OpKind.REDUCE, per_input_element(2.0)),
    "Cross": OpCost(OpKind.ELEMENTWISE, per_output_element(3.0)),
    "Bucketize": OpCost(OpKind.ELEMENTWISE, per_output_element(TRANSCENDENTAL)),
    "QuantizeV2": OpCost(OpKind.QUANTIZE, per_output_element(2.0)),
    "Dequantize": OpCost(OpKind.QUANTIZE, per_output_element(2.0)),
    "QuantizeAndDequantizeV2": OpCost(OpKind.QUANTIZE, per_output_element(4.0)),
    "QuantizeAndDequantizeV3": OpCost(OpKind.QUANTIZE, per_output_element(4.0)),
    "FakeQuantWithMinMaxVars": OpCost(OpKind.QUANTIZE, per_output_element(4.0)),
    "FakeQuantWithMinMaxVarsGradient": OpCost(OpKind.QUANTIZE, per_output_element(2.0)),
    "FakeQuantWithMinMaxArgs": OpCost(OpKind.QUANTIZE, per_output_element(4.0)),
}
