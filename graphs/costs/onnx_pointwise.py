"""Work of ONNX ops that do a fixed amount per element: pointwise, norms, reductions, pools.

Every arithmetic operation and every elementary function (exp, tanh, sqrt, compare) is one flop.
"""

from math import log2, prod

from graphs.costs.formulas import (
    input_elements,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

_ELEMENTWISE = {
    "Abs": 1, "Acos": 1, "Acosh": 1, "Add": 1, "And": 1, "Asin": 1, "Asinh": 1, "Atan": 1,
    "Atanh": 1, "BitShift": 1, "BitwiseAnd": 1, "BitwiseNot": 1, "BitwiseOr": 1,
    "BitwiseXor": 1, "Ceil": 1, "Clip": 2, "Cos": 1, "Cosh": 1, "Div": 1, "Equal": 1, "Erf": 1,
    "Exp": 1, "Floor": 1, "Greater": 1, "GreaterOrEqual": 1, "IsInf": 1, "IsNaN": 1, "Less": 1,
    "LessOrEqual": 1, "Log": 1, "Mod": 1, "Mul": 1, "Neg": 1, "Not": 1, "Or": 1, "Pow": 1,
    "Reciprocal": 1, "Round": 1, "Sign": 1, "Sin": 1, "Sinh": 1, "Sqrt": 1, "Sub": 1, "Tan": 1,
    "Trilu": 0, "Where": 1, "Xor": 1,
}  # fmt: skip

_ACTIVATIONS = {
    "Celu": 4, "Elu": 3, "Gelu": 5, "HardSigmoid": 4, "HardSwish": 5, "LeakyRelu": 2, "Mish": 5,
    "PRelu": 2, "Relu": 1, "Selu": 4, "Shrink": 3, "Sigmoid": 4, "Softplus": 3, "Softsign": 3,
    "SwiGLU": 6, "Swish": 5, "Tanh": 1, "ThresholdedRelu": 1,
}  # fmt: skip

_NORMALIZATIONS = {
    "GroupNormalization": 8, "InstanceNormalization": 8, "LayerNormalization": 8,
    "LpNormalization": 4, "MeanVarianceNormalization": 7, "RMSNormalization": 5,
}  # fmt: skip

_REDUCTIONS = {
    "ArgMax": 1, "ArgMin": 1, "ReduceL1": 2, "ReduceL2": 2, "ReduceLogSum": 1,
    "ReduceLogSumExp": 3, "ReduceMax": 1, "ReduceMean": 1, "ReduceMin": 1, "ReduceProd": 1,
    "ReduceSum": 1, "ReduceSumSquare": 2,
}  # fmt: skip

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
    training = op.attributes.get("training_mode", 0) or len(op.outputs) > 3
    return streaming((8 if training else 2) * op.outputs[0].elements, op)


def _local_response(op: Signature) -> Work:
    """A window of squares across channels, then a power and a division."""
    return streaming((2 * op.attributes["size"] + 4) * op.outputs[0].elements, op)


def pool(op: Signature) -> Work:
    """One flop per tap of each output element's window."""
    return streaming(prod(op.attributes["kernel_shape"]) * op.outputs[0].elements, op)


def _roi_align(op: Signature) -> Work:
    """Bilinear samples (8 flops) on a grid in each output cell; two by two when adaptive."""
    samples = (op.attributes.get("sampling_ratio", 0) or 2) ** 2
    return streaming(8 * samples * op.outputs[0].elements, op)


#: Flops per output element of each interpolation mode in two dimensions.
_INTERPOLATION = {"nearest": 0, "linear": 7, "bilinear": 7, "cubic": 31, "bicubic": 31}


def _interpolate(op: Signature) -> Work:
    mode = op.attributes.get("mode", "nearest")
    return streaming(_INTERPOLATION.get(mode, 7) * op.outputs[0].elements, op)


def _grid_sample(op: Signature) -> Work:
    mode = op.attributes.get("mode", "linear")
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


def _table(kind: OpKind, flops: dict[str, int]) -> dict[str, OpCost]:
    return {name: OpCost(kind, per_output_element(count)) for name, count in flops.items()}


POINTWISE_OPS: dict[str, OpCost] = {
    **_table(OpKind.ELEMENTWISE, _ELEMENTWISE),
    **_table(OpKind.ACTIVATION, _ACTIVATIONS),
    **_table(OpKind.NORMALIZATION, _NORMALIZATIONS),
    **{name: OpCost(OpKind.REDUCE, per_input_element(n)) for name, n in _REDUCTIONS.items()},
    **{name: OpCost(OpKind.ELEMENTWISE, _variadic) for name in ("Max", "Min", "Mean", "Sum")},
    **{name: OpCost(OpKind.POOL, pool) for name in ("AveragePool", "MaxPool", "LpPool")},
    **{
        name: OpCost(OpKind.POOL, per_input_element(1))
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    },
    **_table(
        OpKind.QUANTIZE,
        {"QuantizeLinear": 4, "DequantizeLinear": 2, "DynamicQuantizeLinear": 6},
    ),
    **_table(OpKind.SIGNAL, {"BlackmanWindow": 6, "HammingWindow": 4, "HannWindow": 4}),
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
    "Softmax": OpCost(OpKind.SOFTMAX, per_output_element(5)),
    "LogSoftmax": OpCost(OpKind.SOFTMAX, per_output_element(5)),
    "Hardmax": OpCost(OpKind.SOFTMAX, per_output_element(2)),
    "SoftmaxCrossEntropyLoss": OpCost(
        OpKind.LOSS, lambda op: streaming(6.0 * op.inputs[0].elements, op)
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
    "MelWeightMatrix": OpCost(OpKind.SIGNAL, per_output_element(4)),
}


def tree_ensemble(op: Signature) -> Work:
    """Each row walks each tree from root to leaf: a comparison per level."""
    attributes = op.attributes
    nodes = len(attributes.get("nodes_featureids", ())) or 1
    trees = (
        len(set(attributes.get("nodes_treeids", ()))) or len(attributes.get("tree_roots", ())) or 1
    )
    depth = log2(max(nodes / trees, 2))
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    return streaming(rows * trees * depth, op)


def linear_model(op: Signature) -> Work:
    """Each row times all coefficients."""
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    return streaming(2.0 * rows * len(op.attributes.get("coefficients", ())), op)


def support_vectors(op: Signature) -> Work:
    """Each row against every support vector (a product per feature), then the classes."""
    rows = op.inputs[0].shape[0] if op.inputs[0].shape else 1
    held = op.attributes.get("support_vectors", ())
    coefficients = op.attributes.get("coefficients", ())
    return streaming(2.0 * rows * (len(held) + len(coefficients)), op)


#: ai.onnx.ml.
CLASSICAL_OPS: dict[str, OpCost] = {
    **_table(OpKind.ELEMENTWISE, {"Binarizer": 1, "Imputer": 1, "Scaler": 2}),
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
