"""Costs of TensorFlow's products: matrix products, convolutions, recurrent cells, gradients."""

from collections.abc import Mapping
from math import prod

from graphs.costs.formulas import (
    conv_flops,
    input_elements,
    matmul_flops,
    output_elements,
    recurrent_flops,
    streaming,
)
from graphs.costs.work import Formula, OpCost, Signature, TensorSpec, Work
from graphs.kinds import OpKind


def _matmul(op: Signature) -> Work:
    """`MatMul(a, b)`: the inner size is what is left of `a` after the output's rows.

    Of `a` of unknown rank it is what is left of `b` after the output's columns.
    """
    rows, columns = op.outputs[0].shape[-2:]
    inner = op.inputs[0].elements // max(rows, 1)
    if len(op.inputs[0].shape) != 2:
        inner = op.inputs[1].elements // max(columns, 1)
    return streaming(matmul_flops(rows, inner, columns), op)


def _batch_matmul(op: Signature) -> Work:
    *batch, rows, columns = op.outputs[0].shape
    transposed = op.flag("adj_x")
    inner = op.inputs[0].shape[-2 if transposed else -1]
    return streaming(matmul_flops(rows, inner, columns, prod(batch)), op)


def _einsum(op: Signature) -> Work:
    """One multiply-add per point of the index space; an ellipsis counts as the output's rest."""
    equation = op.text("equation")
    sizes: dict[str, int] = {}
    terms = equation.partition("->")[0].replace(" ", "").split(",")
    for term, tensor in zip(terms, op.inputs, strict=False):
        head, _, tail = term.partition("...")
        sizes.update(zip(head, tensor.shape, strict=False))
        sizes.update(zip(reversed(tail), reversed(tensor.shape), strict=False))
    named = prod(sizes[letter] for letter in set("".join(terms)) - {"."})
    out = equation.partition("->")[2].replace(" ", "").replace("...", "")
    rest = 1
    if "..." in equation:
        rest = op.outputs[0].elements // max(prod(sizes.get(letter, 1) for letter in out), 1)
    return streaming((2.0 if len(terms) > 1 else 1.0) * named * rest, op)


def _conv(op: Signature) -> Work:
    """Filters are `[*kernel, channels per group, output channels]` in every data format."""
    *kernel, channels, _ = op.inputs[1].shape
    return streaming(conv_flops(op.outputs[0], tuple(kernel), channels), op)


def _conv_input_gradient(op: Signature) -> Work:
    """Inputs: sizes (or the input itself), filter, gradient of the output."""
    *kernel, channels, _ = op.inputs[1].shape
    return streaming(conv_flops(op.inputs[2], tuple(kernel), channels), op)


def _conv_filter_gradient(op: Signature) -> Work:
    *kernel, channels, _ = op.outputs[0].shape
    return streaming(conv_flops(op.inputs[2], tuple(kernel), channels), op)


def _depthwise(op: Signature) -> Work:
    """Filters are `[*kernel, channels, multiplier]`; each output sums over its kernel alone."""
    return streaming(conv_flops(op.outputs[0], op.inputs[1].shape[:-2], 1), op)


def _depthwise_input_gradient(op: Signature) -> Work:
    return streaming(conv_flops(op.inputs[2], op.inputs[1].shape[:-2], 1), op)


def _depthwise_filter_gradient(op: Signature) -> Work:
    return streaming(conv_flops(op.inputs[2], op.outputs[0].shape[:-2], 1), op)


def _fused_cell(gates: int, times: int) -> Formula:
    """Fused LSTM and GRU kernels from the size of their weights, one product per batch row."""

    def formula(op: Signature) -> Work:
        hidden = op.outputs[-1].shape[-1] if op.outputs and op.outputs[-1].shape else 1
        weights = max(
            (t for t in op.inputs if len(t.shape) == 2 and t.shape[-1] == gates * hidden),
            key=lambda t: t.elements,
            default=None,
        )
        if weights is None:
            return streaming(2.0 * input_elements(op), op)
        rows = max(op.outputs[-1].elements // max(hidden, 1), 1)
        inputs = weights.shape[0] - hidden
        return streaming(times * recurrent_flops(1, rows, inputs, hidden, gates), op)

    return formula


def _opaque_rnn(op: Signature) -> Work:
    """cuDNN layers: every weight takes one multiply-add per step and batch row."""
    steps_and_batch = prod(op.inputs[0].shape[:2])
    weights = max((tensor for tensor in op.inputs if len(tensor.shape) == 1),
                  key=lambda tensor: tensor.elements, default=TensorSpec(()))  # fmt: skip
    times = 2 if "Backprop" in op.op_type else 1
    return streaming(times * 2.0 * steps_and_batch * weights.elements, op)


def _sparse_matmul(op: Signature) -> Work:
    """`SparseTensorDenseMatMul`: one multiply-add per non-zero and column."""
    nonzeros = op.inputs[1].elements
    columns = op.outputs[0].shape[-1] if op.outputs[0].shape else 1
    return streaming(2.0 * nonzeros * columns, op)


def _morphology(op: Signature) -> Work:
    """`Dilation2D` and its gradients: one addition and one comparison per kernel point."""
    return streaming(2.0 * output_elements(op) * prod(op.inputs[1].shape[:2]), op)


DENSE_OPS: Mapping[str, OpCost] = {
    **dict.fromkeys(
        ("MatMul", "SparseMatMul", "_FusedMatMul", "_MklMatMul"), OpCost(OpKind.MATMUL, _matmul)
    ),
    **dict.fromkeys(
        ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), OpCost(OpKind.MATMUL, _batch_matmul)
    ),
    "Einsum": OpCost(OpKind.MATMUL, _einsum),
    "SparseTensorDenseMatMul": OpCost(OpKind.MATMUL, _sparse_matmul),
    **dict.fromkeys(("Conv2D", "Conv3D", "Conv", "_FusedConv2D"), OpCost(OpKind.CONV, _conv)),
    **dict.fromkeys(
        (
            "Conv2DBackpropInput", "Conv2DBackpropInputV2",
            "Conv3DBackpropInput", "Conv3DBackpropInputV2",
        ),
        OpCost(OpKind.CONV_GRAD, _conv_input_gradient),
    ),
    **dict.fromkeys(
        (
            "Conv2DBackpropFilter", "Conv2DBackpropFilterV2",
            "Conv3DBackpropFilter", "Conv3DBackpropFilterV2",
        ),
        OpCost(OpKind.CONV_GRAD, _conv_filter_gradient),
    ),
    "DepthwiseConv2dNative": OpCost(OpKind.DEPTHWISE_CONV, _depthwise),
    "DepthwiseConv2dNativeBackpropInput": OpCost(OpKind.CONV_GRAD, _depthwise_input_gradient),
    "DepthwiseConv2dNativeBackpropFilter": OpCost(OpKind.CONV_GRAD, _depthwise_filter_gradient),
    "LSTMBlockCell": OpCost(OpKind.RECURRENT, _fused_cell(4, 1)),
    "BlockLSTM": OpCost(OpKind.RECURRENT, _fused_cell(4, 1)),
    "BlockLSTMV2": OpCost(OpKind.RECURRENT, _fused_cell(4, 1)),
    "LSTMBlockCellGrad": OpCost(OpKind.RECURRENT, _fused_cell(4, 2)),
    "BlockLSTMGrad": OpCost(OpKind.RECURRENT, _fused_cell(4, 2)),
    "BlockLSTMGradV2": OpCost(OpKind.RECURRENT, _fused_cell(4, 2)),
    **dict.fromkeys(
        (
            "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3",
            "CudnnRNNBackprop", "CudnnRNNBackpropV2", "CudnnRNNBackpropV3",
        ),
        OpCost(OpKind.RECURRENT, _opaque_rnn),
    ),
    **dict.fromkeys(
        ("Dilation2D", "Dilation2DBackpropInput", "Dilation2DBackpropFilter"),
        OpCost(OpKind.POOL, _morphology),
    ),
}  # fmt: skip
