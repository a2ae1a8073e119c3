"""Work of ops outside ONNX's standard domain: com.microsoft and the training domains.

Attention and products of com.microsoft are in `onnx_contrib_dense`; what is in neither table is
costed from the sizes of its tensors and reported as an estimate.
"""

from math import prod

from graphs.costs.formulas import (
    conv_flops,
    copying,
    free,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.onnx_contrib_dense import MICROSOFT_DENSE_OPS
from graphs.costs.onnx_movement import expanding, gathering
from graphs.costs.onnx_pointwise import RANDOM_FLOPS, SOFTMAX_FLOPS, pool
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind


def _skip_norm(flops: int) -> OpCost:
    """A residual addition and a normalization in one pass over the first output."""
    return OpCost(OpKind.NORMALIZATION, lambda op: streaming(flops * op.outputs[0].elements, op))


def _embedding_norm(op: Signature) -> Work:
    """Looks up two or three embeddings per token, adds them and normalizes."""
    written = op.outputs[0]
    return Work(10.0 * written.elements, 3.0 * written.bytes, op.output_bytes)


def _optimizer(flops_per_weight: int) -> OpCost:
    """Reads weights, gradients and moments, writes weights and moments."""
    return OpCost(
        OpKind.OPTIMIZER_UPDATE, lambda op: streaming(flops_per_weight * _weights(op), op)
    )


def _weights(op: Signature) -> int:
    """Elements updated; a fused multi-tensor step counts what it reads, a quarter of each."""
    if op.outputs:
        return max(tensor.elements for tensor in op.outputs)
    return sum(tensor.elements for tensor in op.inputs) // 4


def _many(kind: OpKind, flops: dict[str, int]) -> dict[str, OpCost]:
    return {name: OpCost(kind, per_output_element(count)) for name, count in flops.items()}


def _conv_gradient(op: Signature) -> Work:
    """Gradients with respect to input and filter: `dY, X, W -> dX, dW, dB`."""
    grad, weight = op.inputs[0], op.inputs[2].shape
    return streaming(4.0 * grad.elements * prod(weight[1:]), op)


def _quantized_conv_transpose(op: Signature) -> Work:
    """The filter is the input number 3; scales and zero points come between."""
    kernel = op.inputs[3].shape
    flops = conv_flops(op.inputs[0], kernel[2:], kernel[1]) + 4 * op.outputs[0].elements
    return streaming(flops, op)


MICROSOFT_OPS: dict[str, OpCost] = {
    **MICROSOFT_DENSE_OPS,
    **_many(
        OpKind.ACTIVATION,
        {"BiasGelu": 15, "FastGelu": 18, "Gelu": 14, "QuickGelu": 11, "BiasSplitGelu": 16,
         "QLinearSigmoid": 14, "QLinearLeakyRelu": 6, "QOrderedGelu": 20, "ScaledSiLU": 12},
    ),
    **_many(
        OpKind.ELEMENTWISE,
        {"QLinearAdd": 6, "QLinearMul": 6, "QLinearWhere": 3, "RotaryEmbedding": 3,
         "GemmaRotaryEmbedding": 6, "BiasAdd": 2, "BitmaskDropout": 2, "BiasDropout": 4,
         "BitmaskBiasDropout": 4, "Inverse": 2, "Trilu": 0, "IsAllFinite": 1, "ComplexMul": 6,
         "ComplexMulConj": 6, "MRotaryEmbedding": 3, "GatedAdd": 2, "MulInteger": 3,
         "MurmurHash3": 20, "NGramRepeatBlock": 1, "RelativePositionBias": 10,
         "GatedRelativePositionBias": 14},
    ),
    **_many(
        OpKind.QUANTIZE,
        {"QuantizeLinear": 4, "DequantizeLinear": 2, "QuantizeBFP": 4, "DequantizeBFP": 2,
         "DequantizeWithOrder": 2, "QuantizeWithOrder": 4},
    ),
    **_many(OpKind.NORMALIZATION, {"LayerNormalization": 8, "SimplifiedLayerNormalization": 5,
                                   "GroupNorm": 8, "SkipGroupNorm": 9, "GatedRMSNorm": 17,
                                   "BranchwiseRMSNorm": 5, "QOrderedLayerNormalization": 14}),
    **_many(OpKind.SOFTMAX, {"QLinearSoftmax": 21, "BiasSoftmax": 18}),
    **{
        name: OpCost(OpKind.POOL, pool)
        for name in ("QLinearAveragePool", "MaxpoolWithMask", "NhwcMaxPool")
    },
    "SkipLayerNormalization": _skip_norm(10),
    "SkipSimplifiedLayerNormalization": _skip_norm(7),
    "EmbedLayerNormalization": OpCost(OpKind.NORMALIZATION, _embedding_norm),
    "QEmbedLayerNormalization": OpCost(OpKind.NORMALIZATION, _embedding_norm),
    "QLinearGlobalAveragePool": OpCost(OpKind.POOL, per_input_element(1)),
    "QLinearReduceMean": OpCost(OpKind.REDUCE, per_input_element(1)),
    "QLinearConcat": OpCost(OpKind.CONCAT, per_output_element(2)),
    "GatherBlockQuantized": OpCost(OpKind.GATHER, gathering),
    "ReduceSumInteger": OpCost(OpKind.REDUCE, per_input_element(1)),
    "TorchEmbedding": OpCost(OpKind.GATHER, gathering),
    "UnfoldTensor": OpCost(OpKind.GATHER, copying),
    "CropAndResize": OpCost(OpKind.RESIZE, per_output_element(8)),
    "ExpandDims": OpCost(OpKind.VIEW, free),
    "Unique": OpCost(OpKind.SORT, per_input_element(16)),
    "RestorePadding": OpCost(OpKind.PAD, copying),
    "RemovePadding": OpCost(OpKind.GATHER, copying),
    # Training, as onnxruntime's gradient builder writes it.
    "ConvGrad": OpCost(OpKind.CONV_GRAD, _conv_gradient),
    **_many(
        OpKind.ACTIVATION,
        {"ReluGrad": 1, "GeluGrad": 25, "FastGeluGrad": 25, "BiasGeluGrad_dX": 26,
         "BiasFastGeluGrad_dX": 26, "SigmoidGrad": 3, "TanhGrad": 3, "QuickGeluGrad": 15,
         "LeakyReluGrad": 1},
    ),
    **_many(
        OpKind.NORMALIZATION_GRAD,
        {"LayerNormalizationGrad": 14, "SimplifiedLayerNormalizationGrad": 10,
         "InvertibleLayerNormalizationGrad": 14, "BatchNormalizationGrad": 14},
    ),
    **_many(
        OpKind.SOFTMAX,
        {"SoftmaxGrad": 4, "SoftmaxGrad_13": 4, "LogSoftmaxGrad": 13, "LogSoftmaxGrad_13": 13},
    ),
    **_many(
        OpKind.LOSS,
        {"SoftmaxCrossEntropyLossGrad": 12, "SoftmaxCrossEntropyLossInternalGrad": 12,
         "SoftmaxCrossEntropyGrad": 12},
    ),
    **_many(OpKind.ELEMENTWISE, {"DropoutGrad": 2, "BitmaskDropoutGrad": 2, "AbsGrad": 1,
                                 "LogGrad": 4, "SinGrad": 11, "MixedPrecisionScale": 1}),
    "SoftmaxCrossEntropyLossInternal": OpCost(OpKind.LOSS, per_input_element(SOFTMAX_FLOPS + 1)),
    "MaxPoolGrad": OpCost(OpKind.POOL_GRAD, per_input_element(1)),
    "AveragePoolGrad": OpCost(OpKind.POOL_GRAD, per_output_element(1)),
    "GatherGrad": OpCost(OpKind.SCATTER, per_input_element(1)),
    "GatherElementsGrad": OpCost(OpKind.SCATTER, per_input_element(1)),
    "GatherNDGrad": OpCost(OpKind.SCATTER, per_input_element(1)),
    "SliceGrad": OpCost(OpKind.PAD, copying),
    "ConcatTraining": OpCost(OpKind.CONCAT, copying),
    "SplitTraining": OpCost(OpKind.SPLIT, copying),
    "BroadcastGradientArgs": OpCost(OpKind.SHAPE, free),
    "ReduceSumTraining": OpCost(OpKind.REDUCE, per_input_element(1)),
    "ReduceAllL2": OpCost(OpKind.REDUCE, per_input_element(2)),
    "ExpandGrad": OpCost(OpKind.REDUCE, expanding),
    "InPlaceAccumulator": OpCost(OpKind.ACCUMULATE, per_output_element(1)),
    "InPlaceAccumulatorV2": OpCost(OpKind.ACCUMULATE, per_input_element(0.5)),
    "PassThrough": OpCost(OpKind.CONTROL, free),
    "RandomNormalLike": OpCost(OpKind.RANDOM, per_output_element(RANDOM_FLOPS)),
    "AdamOptimizer": _optimizer(13),
    "AdamWOptimizer": _optimizer(15),
    "LambOptimizer": _optimizer(20),
    "SGDOptimizer": _optimizer(2),
    "SGDOptimizerV2": _optimizer(2),
}  # fmt: skip

#: What onnxruntime has in the standard domain and onnx does not; outputs are like inputs.
ONNXRUNTIME_STANDARD_OPS: dict[str, OpCost] = {
    "SimplifiedLayerNormalization": MICROSOFT_OPS["SimplifiedLayerNormalization"],
    **_many(OpKind.ELEMENTWISE, {"Affine": 2, "ImageScaler": 2, "Scale": 1}),
    **_many(OpKind.ACTIVATION, {"ParametricSoftplus": 12, "ScaledTanh": 12}),
    "MemcpyFromHost": OpCost(OpKind.BROADCAST, copying),
    "MemcpyToHost": OpCost(OpKind.BROADCAST, copying),
}

#: com.microsoft.nchwc: standard ops on channels in blocks, and the ways into that layout and out.
BLOCKED_LAYOUT_OPS: dict[str, OpCost] = {
    "ReorderInput": OpCost(OpKind.TRANSPOSE, copying),
    "ReorderOutput": OpCost(OpKind.TRANSPOSE, copying),
}

#: com.ms.internal.nhwc: what it has besides standard ops.
CHANNELS_LAST_OPS: dict[str, OpCost] = {
    "QLinearAveragePool": OpCost(OpKind.POOL, pool),
    "QLinearConvTranspose": OpCost(OpKind.CONV, _quantized_conv_transpose),
}

#: ai.onnx.preview.training. The importer, which knows the graph, replaces the work of `Gradient`.
TRAINING_OPS: dict[str, OpCost] = {
    "Adam": OpCost(OpKind.OPTIMIZER_UPDATE, per_output_element(5)),
    "Adagrad": OpCost(OpKind.OPTIMIZER_UPDATE, per_output_element(4)),
    "Momentum": OpCost(OpKind.OPTIMIZER_UPDATE, per_output_element(3)),
    "Gradient": OpCost(OpKind.CUSTOM, per_output_element(1)),
}
