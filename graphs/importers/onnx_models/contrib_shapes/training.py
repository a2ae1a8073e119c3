"""Shapes of what onnxruntime's gradient builder and optimizers write, and of `Gradient`."""

from graphs.importers.onnx_models.contrib_shapes.rules import (
    BOOL,
    INT64,
    Attributes,
    Inputs,
    Known,
    Outputs,
    Rule,
    each_like,
    known_at,
    like,
    number,
    numbers_at,
    optional,
    reduction,
    required,
    shape_at,
    type_at,
    typed,
)


def _of_stated_shape(shape: int, typed_like: int) -> Rule:
    """An input holds the shape: that of the tensor whose gradient is wanted."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        sizes = numbers_at(inputs, shape)
        return [(None if sizes is None else tuple(sizes), type_at(inputs, typed_like))]

    return rule


def _concatenate(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`ConcatTraining` also tells how long each part is."""
    parts = [shape_at(inputs, position) for position in range(len(inputs))]
    shape, axis = list(parts[0]), number(attributes, "axis")
    shape[axis] = sum(part[axis] for part in parts)
    return [(tuple(shape), type_at(inputs, 0)), ((len(parts),), INT64)]


def _split(inputs: Inputs, attributes: Attributes) -> Outputs:
    value, sizes = required(inputs, 0), numbers_at(inputs, 1)
    if sizes is None:
        return []
    axis = number(attributes, "axis", 0) % len(value.spec.shape)
    head, tail = value.spec.shape[:axis], value.spec.shape[axis + 1 :]
    return [((*head, size, *tail), value.elem_type) for size in sizes]


def _loss(inputs: Inputs, attributes: Attributes) -> Outputs:
    scores, labels = required(inputs, 0), shape_at(inputs, 1)
    kept = labels if attributes.get("reduction", "mean") == "none" else ()
    return [(kept, scores.elem_type), known_at(inputs, 0)]


def _adam(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`R, T, W, G, M1, M2, W16` to `T, M1, M2, W, G, W16`."""
    return like(1, 4, 5, 2, 3, 6)(inputs, attributes)


def _scaled(inputs: Inputs, attributes: Attributes) -> Outputs:
    to = number(attributes, "to", 0)
    rest = [required(inputs, position) for position in range(1, len(inputs))]
    known: list[Known] = [(value.spec.shape, to or value.elem_type) for value in rest]
    return [*known]


def _accumulated(inputs: Inputs, attributes: Attributes) -> Outputs:
    return [((1,), BOOL), known_at(inputs, 0)]


def _updated(first: int) -> Rule:
    """A flag, then each sequence of tensors as it came in; sequences have no single shape."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        later = [optional(inputs, position) for position in range(first, len(inputs))]
        known = [None if v is None else (v.spec.shape, v.elem_type) for v in later]
        return [((1,), BOOL), *known]

    return rule


TRAINING_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "ReluGrad", "GeluGrad", "FastGeluGrad", "SigmoidGrad", "TanhGrad", "QuickGeluGrad",
            "LeakyReluGrad", "SoftmaxGrad", "SoftmaxGrad_13", "LogSoftmaxGrad", "AbsGrad",
            "LogSoftmaxGrad_13", "BiasGeluGrad_dX", "BiasFastGeluGrad_dX", "PassThrough",
            "LogGrad", "SinGrad", "DropoutGrad", "BitmaskDropoutGrad", "InPlaceAccumulator",
            "RandomNormalLike",
        ),
        like(0),
    ),
    "ConvGrad": like(1, 2, 3),
    "BatchNormalizationGrad": like(1, 2, 2),
    "LayerNormalizationGrad": like(1, 2, 2),
    "SimplifiedLayerNormalizationGrad": like(1, 2),
    "InvertibleLayerNormalizationGrad": like(1, 2, 2),
    "SoftmaxCrossEntropyGrad": like(1),
    "SoftmaxCrossEntropyLossGrad": like(1),
    "SoftmaxCrossEntropyLossInternalGrad": like(1),
    "SoftmaxCrossEntropyLossInternal": _loss,
    "MaxPoolGrad": typed(0),
    "AveragePoolGrad": typed(0),
    "GatherGrad": _of_stated_shape(0, 2),
    "GatherElementsGrad": _of_stated_shape(1, 0),
    "GatherNDGrad": _of_stated_shape(0, 2),
    "SliceGrad": _of_stated_shape(1, 0),
    "ExpandGrad": _of_stated_shape(1, 0),
    "ConcatTraining": _concatenate,
    "SplitTraining": _split,
    "BroadcastGradientArgs": lambda inputs, attributes: [(None, INT64), (None, INT64)],
    "ReduceSumTraining": reduction(axes_input=1),
    "ReduceAllL2": lambda inputs, attributes: [((), type_at(inputs, 0))],
    "InPlaceAccumulatorV2": _accumulated,
    "MixedPrecisionScale": _scaled,
    "AdamOptimizer": _adam,
    "SGDOptimizer": like(1, 2),
    "LambOptimizer": typed(0),
    "AdamWOptimizer": _updated(2),
    "SGDOptimizerV2": _updated(1),
    "Gradient": each_like(0),
    # Standard, but its oldest versions infer nothing for the mask.
    "Dropout": like(0, 0),
}  # fmt: skip
