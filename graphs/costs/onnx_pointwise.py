"""Work of ONNX ops that do a fixed amount per element: pointwise, norms, reductions, pools."""

from collections.abc import Mapping, Sequence
from math import log2, prod

from graphs.costs.formulas import (
    DIVISION,
    POWER,
    SIMPLE,
    TRANSCENDENTAL,
    input_elements,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

#: Flops per output element to the ops that take as many; an activation counts its parts.
_ELEMENTWISE = {
    0.0: ("Trilu",),
    SIMPLE: (
        "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
        "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
        "LessOrEqual", "Mul", "Neg", "Not", "Or", "Round", "Sign", "Sub", "Where", "Xor",
    ),
    2.0: ("Clip",),
    DIVISION: ("Div", "Mod", "Reciprocal", "Sqrt"),
    TRANSCENDENTAL: (
        "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log",
        "Sin", "Sinh", "Tan",
    ),
    POWER: ("Pow",),
}  # fmt: skip

_ACTIVATIONS = {
    SIMPLE: ("Relu", "ThresholdedRelu"),
    2.0: ("LeakyRelu", "PRelu"),
    3.0: ("Shrink",),
    4.0: ("HardSigmoid",),
    5.0: ("HardSwish",),
    6.0: ("Softsign",),
    TRANSCENDENTAL: ("Celu", "Elu", "Selu", "Sigmoid", "Softplus", "Tanh"),
    TRANSCENDENTAL + 1: ("Swish",),
    TRANSCENDENTAL + 2: ("SwiGLU",),
    TRANSCENDENTAL + 4: ("Gelu",),
    2 * TRANSCENDENTAL: ("Mish",),
}  # fmt: skip

_NORMALIZATIONS = {
    4.0: ("LpNormalization",),
    5.0: ("RMSNormalization",),
    7.0: ("MeanVarianceNormalization",),
    8.0: ("GroupNormalization", "InstanceNormalization", "LayerNormalization"),
}

#: Flops per input element.
_REDUCTIONS = {
    SIMPLE: (
        "ArgMax", "ArgMin", "ReduceLogSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum",
    ),
    2.0: ("ReduceL1", "ReduceL2", "ReduceSumSquare"),
    TRANSCENDENTAL + 2: ("ReduceLogSumExp",),
}  # fmt: skip

#: A maximum, a subtraction, an exponential, a sum and a division per element.
SOFTMAX_FLOPS = TRANSCENDENTAL + DIVISION + 3

#: Flops to draw one number: a counter-based generator's rounds and a transform.
RANDOM_FLOPS = 10.0


def _variadic(op: Signature) -> Work:
    """One flop per element of every input but the first."""
    return streaming((len(op.inputs) - 1) * op.outputs[0].elements, op)


def _rotary(op: Signature) -> Work:
    """Two multiplications and an addition per element."""
    return streaming(3 * op.outputs[0].elements, op)


def _batch_norm(op: Signature) -> Work:
    """Scale and shift in inference; the batch's statistics too in training."""
    training = op.flag("training_mode") or len(op.outputs) > 3
    return streaming((8 if training else 2) * op.outputs[0].elements, op)


def _local_response(op: Signature) -> Work:
    """A window of squares across channels, then a power and a division."""
    return streaming((2 * op.integer("size") + POWER + DIVISION) * op.outputs[0].elements, op)


def pool(op: Signature) -> Work:
    """One flop per tap of each output element's window."""
    return streaming(prod(op.integers("kernel_shape")) * op.outputs[0].elements, op)


def _roi_align(op: Signature) -> Work:
    """Bilinear samples (8 flops) on a grid in each output cell; two by two when adaptive."""
    samples = (op.integer("sampling_ratio", 0) or 2) ** 2
    return streaming(8 * samples * op.outputs[0].elements, op)


#: Flops per output element of each interpolation mode in two dimensions.
_INTERPOLATION = {"nearest": 0, "linear": 7, "bilinear": 7, "cubic": 31, "bicubic": 31}


def _interpolate(op: Signature) -> Work:
    mode = op.text("mode", "nearest")
    return streaming(_INTERPOLATION.get(mode, 7) * op.outputs[0].elements, op)


def _grid_sample(op: Signature) -> Work:
    mode = op.text("mode", "linear")
    return streaming(_INTERPOLATION.get(mode, 7) * op.outputs[0].elements, op)


def _affine_grid(op: Signature) -> Work:
    """A small matrix-vector product per grid point: coordinates plus one, for each coordinate."""
    return streaming(2 * (op.outputs[0].shape[-1] + 1) * op.outputs[0].elements, op)


def sort(op: Signature) -> Work:
    """Comparison sort of everything read along the longest axis."""
    return streaming(input_elements(op) * log2(max(max(op.inputs[0].shape, default=1), 2)), op)


def _suppression(op: Signature) -> Work:
    """Every pair of boxes per class, 10 flops for an intersection over union."""
    boxes = op.inputs[0].shape[1]
    return streaming(10.0 * op.inputs[1].elements * boxes / 2, op)


def _fourier(op: Signature) -> Work:
    """5 n log2 n per transform; the length is read from the input's longest transformed axis."""
    largest = max(op.inputs[0].elements, op.outputs[0].elements)
    length = max(op.outputs[0].shape[-2] if len(op.outputs[0].shape) > 1 else 1, 2)
    return streaming(5.0 * largest * log2(length), op)


def _unnormalised_loss(op: Signature) -> Work:
    """Picks one score per target and averages."""
    return streaming(2.0 * op.inputs[1].elements, op)


def _table(kind: OpKind, flops: Mapping[float, Sequence[str]]) -> dict[str, OpCost]:
    return {
        name: OpCost(kind, per_output_element(count))
        for count, names in flops.items()
        for name in names
    }


POINTWISE_OPS: dict[str, OpCost] = {
    **_table(OpKind.ELEMENTWISE, _ELEMENTWISE),
    **_table(OpKind.ACTIVATION, _ACTIVATIONS),
    **_table(OpKind.NORMALIZATION, _NORMALIZATIONS),
    **{
        name: OpCost(OpKind.REDUCE, per_input_element(count))
        for count, names in _REDUCTIONS.items()
        for name in names
    },
    **{name: OpCost(OpKind.ELEMENTWISE, _variadic) for name in ("Max", "Min", "Mean", "Sum")},
    **{name: OpCost(OpKind.POOL, pool) for name in ("AveragePool", "MaxPool", "LpPool")},
    **{
        name: OpCost(OpKind.POOL, per_input_element(1))
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    },
    **_table(
        OpKind.QUANTIZE,
        {2.0: ("DequantizeLinear",), 4.0: ("QuantizeLinear",), 6.0: ("DynamicQuantizeLinear",)},
    ),
    **_table(
        OpKind.SIGNAL, {TRANSCENDENTAL + 2: ("BlackmanWindow", "HammingWindow", "HannWindow")}
    ),
    **{
        name: OpCost(OpKind.RANDOM, per_output_element(RANDOM_FLOPS))
        for name in (
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        )
    },
    "RotaryEmbedding": OpCost(OpKind.ELEMENTWISE, _rotary),
    "Cast": OpCost(OpKind.CAST, per_output_element(0)),
    "CastLike": OpCost(OpKind.CAST, per_output_element(0)),
    "BatchNormalization": OpCost(OpKind.NORMALIZATION, _batch_norm),
    "LRN": OpCost(OpKind.NORMALIZATION, _local_response),
    "Softmax": OpCost(OpKind.SOFTMAX, per_output_element(SOFTMAX_FLOPS)),
    "LogSoftmax": OpCost(OpKind.SOFTMAX, per_output_element(SOFTMAX_FLOPS)),
    "Hardmax": OpCost(OpKind.SOFTMAX, per_output_element(2)),
    "SoftmaxCrossEntropyLoss": OpCost(
        OpKind.LOSS, lambda op: streaming((SOFTMAX_FLOPS + 1) * op.inputs[0].elements, op)
    ),
    "NegativeLogLikelihoodLoss": OpCost(OpKind.LOSS, _unnormalised_loss),
    "CumSum": OpCost(OpKind.SCAN, per_output_element(1)),
    "CumProd": OpCost(OpKind.SCAN, per_output_element(1)),
    "MaxRoiPool": OpCost(OpKind.POOL, per_input_element(1)),
    "RoiAlign": OpCost(OpKind.POOL, _roi_align),
    "Resize": OpCost(OpKind.RESIZE, _interpolate),
    "Upsample": OpCost(OpKind.RESIZE, _interpolate),
    "GridSample": OpCost(OpKind.RESIZE, _grid_sample),
    "AffineGrid": OpCost(OpKind.RESIZE, _affine_grid),
    "TopK": OpCost(OpKind.SORT, sort),
    "Unique": OpCost(OpKind.SORT, sort),
    "NonMaxSuppression": OpCost(OpKind.SORT, _suppression),
    "DFT": OpCost(OpKind.SIGNAL, _fourier),
    "STFT": OpCost(OpKind.SIGNAL, _fourier),
    "MelWeightMatrix": OpCost(OpKind.SIGNAL, per_output_element(TRANSCENDENTAL)),
}


def tree_ensemble(op: Signature) -> Work:
    """Each row walks each tree from root to leaf: a comparison per level."""
    nodes = len(op.values("nodes_featureids")) or 1
    trees = len(set(op.values("nodes_treeids"))) or len(op.values("tree_roots")) or 1
    depth = log2(max(nodes / trees, 2))
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    return streaming(rows * trees * depth, op)


def linear_model(op: Signature) -> Work:
    """Each row times all coefficients."""
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    return streaming(2.0 * rows * len(op.values("coefficients")), op)


def support_vectors(op: Signature) -> Work:
    """Each row against every support vector (a product per feature), then the classes."""
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    held = op.values("support_vectors")
    coefficients = op.values("coefficients")
    return streaming(2.0 * rows * (len(held) + len(coefficients)), op)


#: ai.onnx.ml.
CLASSICAL_OPS: dict[str, OpCost] = {
    **_table(OpKind.ELEMENTWISE, {1.0: ("Binarizer", "Imputer"), 2.0: ("Scaler",)}),
    **{
        name: OpCost(OpKind.CUSTOM, tree_ensemble)
        for name in ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
    },
    **{
        name: OpCost(OpKind.MATMUL, linear_model)
        for name in ("LinearClassifier", "LinearRegressor")
    },
    **{name: OpCost(OpKind.MATMUL, support_vectors) for name in ("SVMClassifier", "SVMRegressor")},
    **{
        name: OpCost(OpKind.HOST, per_output_element(1))
        for name in ("CastMap", "CategoryMapper", "DictVectorizer", "LabelEncoder", "ZipMap")
    },
    "ArrayFeatureExtractor": OpCost(OpKind.GATHER, per_output_element(0)),
    "FeatureVectorizer": OpCost(OpKind.CONCAT, per_output_element(0)),
    "Normalizer": OpCost(OpKind.NORMALIZATION, per_output_element(3)),
    "OneHotEncoder": OpCost(OpKind.SCATTER, per_output_element(1)),
}
