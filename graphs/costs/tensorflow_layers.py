"""Costs of TensorFlow's reductions, normalisations, poolings, losses and spectral ops."""

from collections.abc import Mapping
from math import log2, prod

from graphs.costs.formulas import (
    input_elements,
    output_elements,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind


def _normalization(op: Signature) -> Work:
    """Batch norm: statistics are two passes (about 6 flops), scaling 2; inference scales only."""
    flops = 8.0 if op.flag("is_training", True) else 2.0
    return streaming(flops * op.inputs[0].elements, op)


def _normalization_gradient(op: Signature) -> Work:
    """Two reductions over gradient and input, then the gradient of the input."""
    return streaming(12.0 * op.inputs[0].elements, op)


def _local_response(op: Signature) -> Work:
    """`LRN`: a window of squares, a power and a division per element."""
    window = 2 * op.integer("depth_radius", 5) + 1
    return streaming((2.0 * window + 24.0) * op.outputs[0].elements, op)


def _pool(op: Signature) -> Work:
    """One operation per point of the window and element of the output."""
    return streaming(float(output_elements(op) * _window(op)), op)


def _pool_gradient(op: Signature) -> Work:
    """One operation per point of the window and element of the pooled gradient."""
    pooled = op.inputs[1].elements  # of the output, its gradient, or the gradient alone
    return streaming(float(pooled * _window(op)), op)


def _window(op: Signature) -> int:
    return prod(op.integers("ksize", (1,)))


def _fourier(op: Signature) -> Work:
    """5 n log2 n for each transform of the last axis."""
    length = max(max((t.shape[-1] for t in (*op.inputs[:1], *op.outputs) if t.shape), default=1), 2)
    elements = max(input_elements(op), output_elements(op))
    return streaming(5.0 * elements * log2(length), op)


def _sort(op: Signature) -> Work:
    """n log2 n comparisons along the last axis."""
    length = max(op.inputs[0].shape[-1] if op.inputs[0].shape else 1, 2)
    return streaming(op.inputs[0].elements * log2(length), op)


def _resize(op: Signature) -> Work:
    """Bilinear: four taps, eight flops for each element of the larger side."""
    return streaming(8.0 * max(output_elements(op), op.inputs[0].elements), op)


def _all(kind: OpKind, formula: Formula, *names: str) -> dict[str, OpCost]:
    return dict.fromkeys(names, OpCost(kind, formula))


LAYER_OPS: Mapping[str, OpCost] = {
    **_all(
        OpKind.REDUCE, per_input_element(1.0),
        "Sum", "Mean", "Prod", "Max", "Min", "All", "Any", "ArgMax", "ArgMin", "BiasAddGrad",
        "EuclideanNorm", "Bincount", "DenseBincount",
    ),
    **_all(OpKind.ELEMENTWISE, per_output_element(1.0), "BiasAdd", "BiasAddV1"),
    **_all(OpKind.SCAN, per_output_element(1.0), "Cumsum", "Cumprod", "CumulativeLogsumexp"),
    **_all(
        OpKind.NORMALIZATION, _normalization,
        "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx",
        "BatchNormWithGlobalNormalization",
    ),
    **_all(
        OpKind.NORMALIZATION_GRAD, _normalization_gradient,
        "FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3",
        "BatchNormWithGlobalNormalizationGrad",
    ),
    **_all(OpKind.NORMALIZATION, _local_response, "LRN"),
    **_all(OpKind.NORMALIZATION_GRAD, _local_response, "LRNGrad"),
    # Maximum, subtraction, exponential, sum, division.
    **_all(OpKind.SOFTMAX, per_output_element(17.0), "Softmax", "LogSoftmax"),
    **_all(
        OpKind.LOSS, per_input_element(18.0),
        "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits",
    ),
    **_all(
        OpKind.LOSS, per_input_element(30.0),
        "CTCLoss", "CTCLossV2", "NegTrain", "Skipgram",
    ),
    **_all(
        OpKind.POOL, _pool,
        "MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D", "MaxPoolWithArgmax",
        "FractionalMaxPool", "FractionalAvgPool",
    ),
    **_all(
        OpKind.POOL_GRAD, _pool_gradient,
        "MaxPoolGrad", "MaxPoolGradV2", "AvgPoolGrad", "MaxPool3DGrad", "AvgPool3DGrad",
        "MaxPoolGradGrad", "MaxPoolGradGradV2", "MaxPoolGradWithArgmax", "MaxPool3DGradGrad",
    ),
    **_all(OpKind.SIGNAL, _fourier, "FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D",
           "RFFT", "RFFT2D", "RFFT3D", "IRFFT", "IRFFT2D", "IRFFT3D"),
    **_all(OpKind.SORT, _sort, "TopK", "TopKV2", "ApproxTopK", "NthElement", "Unique", "UniqueV2",
           "UniqueWithCounts", "UniqueWithCountsV2", "InTopK", "InTopKV2", "ListDiff"),
    **_all(
        OpKind.RESIZE, _resize,
        "ResizeBilinear", "ResizeBilinearGrad", "ResizeNearestNeighbor",
        "ResizeNearestNeighborGrad", "ResizeBicubic", "ResizeBicubicGrad", "ResizeArea",
        "ScaleAndTranslate", "ScaleAndTranslateGrad",
    ),
}  # fmt: skip
