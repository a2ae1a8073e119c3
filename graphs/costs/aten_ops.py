"""The table from ATen ops (without their overload) to kinds and formulas.

In-place variants (`add_`) are looked up without their underscore. Views are free in torch:
transposing, slicing or expanding moves nothing until a kernel reads the result.
"""

from math import log2, prod

from graphs.costs.aten_dense import ATEN_DENSE_OPS, HIGHER_ORDER_OPS, grouped_product
from graphs.costs.aten_writes import ATEN_WRITES
from graphs.costs.formulas import (
    DIVISION,
    POWER,
    SIMPLE,
    TRANSCENDENTAL,
    copying,
    free,
    input_elements,
    output_elements,
    per_input_element,
    per_output_element,
    streaming,
)
from graphs.costs.onnx_movement import filling, gathering
from graphs.costs.onnx_pointwise import RANDOM_FLOPS, SOFTMAX_FLOPS
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind

_ELEMENTWISE = {
    SIMPLE: (
        "add", "sub", "rsub", "mul", "neg", "abs", "sign", "sgn", "ceil", "floor", "round",
        "trunc", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not",
        "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "maximum",
        "minimum", "where", "masked_fill", "isnan", "isinf", "isfinite", "real", "square", "frac",
        "fmax", "fmin", "bitwise_left_shift", "bitwise_right_shift", "relu", "threshold",
        "threshold_backward", "tril", "triu", "nan_to_num", "multiply", "subtract", "negative",
        "less", "less_equal", "greater", "greater_equal", "not_equal", "diff",
    ),
    2.0: (
        "clamp", "clamp_min", "clamp_max", "addcmul", "lerp", "hardtanh", "relu6", "leaky_relu",
        "prelu", "_prelu_kernel", "leaky_relu_backward", "hardtanh_backward", "heaviside",
    ),
    3.0: ("tanh_backward", "sigmoid_backward", "softshrink", "hardshrink"),
    DIVISION: (
        "div", "floor_divide", "remainder", "fmod", "reciprocal", "sqrt", "rsqrt", "addcdiv",
        "hardsigmoid", "true_divide", "hypot", "divide",
    ),
    6.0: ("hardswish", "hardswish_backward", "hardsigmoid_backward"),
    TRANSCENDENTAL: (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin",
        "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc",
        "erfinv", "sigmoid", "elu", "selu", "celu", "softplus", "logit", "lgamma", "digamma",
        "xlogy", "polar", "log_sigmoid", "log_sigmoid_forward", "angle", "sinc",
        "elu_backward", "softplus_backward", "logaddexp",
    ),
    TRANSCENDENTAL + 2: ("silu", "glu", "log_sigmoid_backward"),
    TRANSCENDENTAL + 4: ("gelu", "silu_backward"),
    2 * TRANSCENDENTAL: ("mish",),
    2 * TRANSCENDENTAL + 5: ("gelu_backward", "mish_backward", "glu_backward"),
    POWER: ("pow", "float_power"),
}  # fmt: skip

_ACTIVATIONS = frozenset(
    {
        "relu", "relu6", "hardtanh", "leaky_relu", "prelu", "_prelu_kernel", "hardsigmoid",
        "hardswish", "sigmoid", "tanh", "elu", "selu", "celu", "softplus", "silu",
        "glu", "gelu", "mish", "log_sigmoid_forward", "threshold_backward",
        "tanh_backward", "sigmoid_backward", "gelu_backward", "silu_backward", "threshold",
    }
)  # fmt: skip

#: Ops whose outputs share the buffer of their first input.
ATEN_VIEWS = frozenset(
    {
        "view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten",
        "permute", "transpose", "t", "mT", "numpy_T", "swapaxes", "movedim", "expand",
        "expand_as", "broadcast_to", "slice", "select", "narrow", "split", "split_with_sizes",
        "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk", "detach", "alias",
        "as_strided", "diagonal", "unfold", "view_as", "view_as_real", "view_as_complex",
        "lift_fresh", "lift_fresh_copy", "_reshape_alias", "dropout",
        "feature_dropout", "alpha_dropout", "atleast_1d", "atleast_2d", "hsplit",
    }
)  # fmt: skip

#: How `torch.vmap` enters and leaves a level: its rows are dimensions of one tensor.
VMAP_VIEWS = frozenset({"_add_batch_dim", "_remove_batch_dim"})


def _dropout(op: Signature) -> Work:
    return streaming((RANDOM_FLOPS + 2) * op.outputs[0].elements, op)


def _window_pool(op: Signature) -> Work:
    """One flop per tap of each output's window; a side given once holds for every axis."""
    kernel = op.integers("kernel_size")
    axes = 1 if op.op_type.endswith("1d") else 3 if "3d" in op.op_type else 2
    taps = prod(kernel) if len(kernel) > 1 else kernel[0] ** axes
    return streaming(float(taps * op.outputs[0].elements), op)


def _batch_norm(op: Signature) -> Work:
    training = op.flag("training") or op.flag("train")
    return streaming((8.0 if training else 2.0) * op.outputs[0].elements, op)


def _reduction(flops: float) -> Formula:
    """Per element of the reduced tensor: other operands are its saved statistics."""
    return lambda op: streaming(flops * op.inputs[0].elements, op)


def _sorting(op: Signature) -> Work:
    length = max(max(op.inputs[0].shape, default=2), 2)
    return streaming(input_elements(op) * log2(length), op)


def _adding_rows(op: Signature) -> Work:
    """Adds the source into a copy of the target."""
    return streaming(float(op.inputs[-1].elements), op)


def _embedding_bag(op: Signature) -> Work:
    """Embedding bags read the rows they sum."""
    rows = sum(tensor.elements for tensor in op.inputs[1:2])
    width = op.inputs[0].shape[-1]
    read = rows * width * op.inputs[0].dtype.element_bytes
    return Work(float(rows * width), read, op.output_bytes)


def _all(kind: OpKind, formula: Formula, *names: str) -> dict[str, OpCost]:
    return dict.fromkeys(names, OpCost(kind, formula))


def _fourier(op: Signature) -> Work:
    length = max(max(op.outputs[0].shape, default=2), 2)
    return streaming(5.0 * output_elements(op) * log2(length), op)


ATEN_OPS: dict[str, OpCost] = {
    **ATEN_DENSE_OPS,
    **{
        name: OpCost(
            OpKind.ACTIVATION if name in _ACTIVATIONS else OpKind.ELEMENTWISE,
            per_output_element(flops),
        )
        for flops, names in _ELEMENTWISE.items()
        for name in names
    },
    **{name: OpCost(OpKind.VIEW, free) for name in ATEN_VIEWS},
    **_all(OpKind.CAST, per_output_element(0), "_to_copy", "to", "type_as"),
    **_all(OpKind.TRANSPOSE, copying, "clone", "contiguous", "pixel_shuffle", "pixel_unshuffle",
           "channel_shuffle", "roll", "flip", "rot90"),
    **_all(OpKind.ELEMENTWISE, copying, "copy", "copy_", "fill"),
    **_all(OpKind.PAD, copying, "constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d",
           "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d",
           "slice_backward", "select_backward", "slice_scatter", "select_scatter",
           "as_strided_scatter", "reflection_pad1d_backward", "reflection_pad2d_backward"),
    **_all(OpKind.CONCAT, copying, "cat", "stack", "concat", "hstack", "vstack", "dstack",
           "column_stack"),
    **_all(OpKind.BROADCAST, copying, "repeat", "repeat_interleave", "tile", "meshgrid"),
    **_all(OpKind.BROADCAST, filling, "full", "full_like", "zeros", "zeros_like", "ones",
           "ones_like", "empty", "empty_like", "arange", "new_zeros", "new_ones", "new_full",
           "new_empty", "new_empty_strided", "scalar_tensor", "linspace", "logspace", "eye",
           "empty_strided", "empty_permuted", "tril_indices", "triu_indices", "zero"),
    **_all(OpKind.GATHER, gathering, "embedding", "index", "index_select", "gather", "take",
           "take_along_dim", "masked_select", "nonzero", "_unsafe_index", "unfold_copy", "im2col"),
    **_all(OpKind.GATHER, _embedding_bag, "embedding_bag", "_embedding_bag",
           "_embedding_bag_forward_only"),
    **_all(OpKind.SCATTER, _adding_rows, "scatter", "scatter_add", "scatter_reduce", "index_put",
           "index_add", "index_copy", "index_fill", "masked_scatter", "_unsafe_index_put",
           "embedding_dense_backward", "one_hot", "col2im", "diagonal_scatter"),
    **_all(OpKind.REDUCE, _reduction(1.0), "sum", "mean", "prod", "amax", "amin", "max", "min",
           "argmax", "argmin", "any", "all", "nansum", "count_nonzero", "median", "aminmax",
           "mode", "bincount", "histc", "trace"),
    **_all(OpKind.REDUCE, _reduction(3.0), "var", "std", "var_mean", "std_mean"),
    **_all(OpKind.REDUCE, _reduction(2.0), "norm", "linalg_vector_norm", "linalg_norm",
           "linalg_matrix_norm"),
    **_all(OpKind.REDUCE, _reduction(TRANSCENDENTAL + 2), "logsumexp"),
    **_all(OpKind.SCAN, per_output_element(1.0), "cumsum", "cumprod", "cummax", "cummin",
           "logcumsumexp"),
    **_all(OpKind.NORMALIZATION, _reduction(8.0), "layer_norm", "native_layer_norm", "group_norm",
           "native_group_norm", "instance_norm"),
    **_all(OpKind.NORMALIZATION, _reduction(5.0), "rms_norm", "_fused_rms_norm",
           "_weight_norm", "_weight_norm_interface"),
    **_all(OpKind.NORMALIZATION, _batch_norm, "batch_norm", "native_batch_norm",
           "_native_batch_norm_legit", "_native_batch_norm_legit_functional", "cudnn_batch_norm",
           "_native_batch_norm_legit_no_training", "_batch_norm_with_update",
           "_batch_norm_no_update"),
    **_all(OpKind.NORMALIZATION_GRAD, _reduction(12.0), "native_layer_norm_backward",
           "native_group_norm_backward", "native_batch_norm_backward", "batch_norm_backward",
           "_fused_rms_norm_backward", "_weight_norm_interface_backward"),
    **_all(OpKind.SOFTMAX, per_output_element(SOFTMAX_FLOPS), "softmax", "_softmax",
           "log_softmax", "_log_softmax", "special_softmax", "_safe_softmax"),
    **_all(OpKind.SOFTMAX, per_output_element(4.0), "_softmax_backward_data"),
    **_all(OpKind.SOFTMAX, per_output_element(TRANSCENDENTAL + 3), "_log_softmax_backward_data"),
    **_all(OpKind.LOSS, per_input_element(SOFTMAX_FLOPS + 1), "cross_entropy_loss",
           "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
    **_all(OpKind.LOSS, per_input_element(3.0), "mse_loss", "l1_loss", "smooth_l1_loss",
           "huber_loss", "mse_loss_backward", "smooth_l1_loss_backward"),
    **_all(OpKind.LOSS, gathering, "nll_loss", "nll_loss_forward", "nll_loss_nd",
           "nll_loss2d_forward"),
    **_all(OpKind.LOSS, per_output_element(1.0), "nll_loss_backward", "nll_loss2d_backward"),
    **_all(OpKind.POOL, _window_pool, "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d",
           "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    **_all(OpKind.POOL, _reduction(1.0), "adaptive_avg_pool1d", "adaptive_avg_pool2d",
           "_adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool3d",
           "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **_all(OpKind.POOL_GRAD, per_output_element(1.0), "max_pool2d_with_indices_backward",
           "max_pool3d_with_indices_backward", "avg_pool2d_backward", "avg_pool3d_backward",
           "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
    **_all(OpKind.RESIZE, per_output_element(0.0), "upsample_nearest1d", "upsample_nearest2d",
           "upsample_nearest3d", "_upsample_nearest_exact2d"),
    **_all(OpKind.RESIZE, per_output_element(8.0), "upsample_linear1d", "upsample_bilinear2d",
           "upsample_trilinear3d", "_upsample_bilinear2d_aa", "grid_sampler", "grid_sampler_2d",
           "upsample_linear1d_backward", "upsample_bilinear2d_backward",
           "upsample_nearest2d_backward"),
    **_all(OpKind.RESIZE, per_output_element(32.0), "upsample_bicubic2d",
           "_upsample_bicubic2d_aa", "upsample_bicubic2d_backward"),
    **_all(OpKind.SORT, _sorting, "sort", "topk", "argsort", "_unique2",
           "unique_consecutive", "kthvalue", "searchsorted", "bucketize"),
    **_all(OpKind.RANDOM, per_output_element(RANDOM_FLOPS), "rand", "rand_like", "randn",
           "randn_like", "randint", "randint_like", "bernoulli", "uniform", "normal", "exponential",
           "multinomial", "randperm"),
    "native_dropout": OpCost(OpKind.RANDOM, _dropout),
    "native_dropout_backward": OpCost(OpKind.ELEMENTWISE, per_output_element(2.0)),
    **_all(OpKind.SIGNAL, _fourier, "_fft_r2c", "_fft_c2r", "_fft_c2c", "fft_fft", "fft_rfft",
           "fft_irfft", "fft_ifft", "fft_fft2", "fft_fftn", "fft_rfft2", "fft_irfft2", "fft_rfftn",
           "fft_irfftn", "fft_ifft2", "fft_ifftn", "stft", "istft"),
}  # fmt: skip

TRAINING_DROPOUT = ATEN_OPS["native_dropout"]

#: Operators beside ATen that programs of torch.export hold.
_OTHER_OPS: dict[str, OpCost] = {
    **HIGHER_ORDER_OPS,
    "grouped_mm_fallback": OpCost(OpKind.MATMUL, grouped_product),  # transformers, on CPUs
    **{name: OpCost(OpKind.VIEW, free) for name in VMAP_VIEWS},
}


_BITWISE = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
            "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}  # fmt: skip


def is_in_place(base_name: str) -> bool:
    """Whether an op changes its first argument: `add_`, `__iand__`, but not `__and__`."""
    if base_name.startswith("__"):
        return base_name[2:3] == "i" and base_name[3:].strip("_") in _BITWISE
    return base_name.endswith("_")


def without_underscore(base_name: str) -> str:
    """The op that computes the same into a new tensor; ops of Python's operators by their name."""
    if base_name.startswith("__"):
        plain = base_name.strip("_")
        return _BITWISE.get(plain, _BITWISE.get(plain[1:], base_name))
    return base_name.rstrip("_")


def aten_cost(base_name: str) -> OpCost | None:
    """Kind and formula of an ATen op without its overload, or None where there is none.

    Ops that write in place move what they write, which for some is less than their functional
    form moves. `_foreach_` ops do for each tensor what their name says.
    """
    in_place = ATEN_WRITES.get(base_name)
    if in_place is not None:
        return in_place
    plain = without_underscore(base_name)
    for table, name in (
        (ATEN_OPS, base_name), (_OTHER_OPS, base_name), (ATEN_OPS, plain.removeprefix("_foreach_"))
    ):  # fmt: skip
        if name in table:
            return table[name]
    return None
