"""Work of ATen's products, convolutions, recurrences and attention, and of their gradients."""

from math import prod

from graphs.costs.einsum import einsum_flops
from graphs.costs.formulas import (
    attention_flops,
    conv_flops,
    matmul_flops,
    recurrent_flops,
    streaming,
)
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind


def _product(left: int, extra: int = 0) -> Formula:
    """A product whose left factor is the input number `left`; `extra` flops per output element."""

    def formula(op: Signature) -> Work:
        out = op.outputs[0].elements
        inner = op.inputs[left].shape[-1]
        return streaming(matmul_flops(1, inner, 1, out) + extra * out, op)

    return formula


def grouped_product(op: Signature) -> Work:
    """Rows in groups, each with a matrix of its own; of two flat factors it is their product over
    the rows of each group, a matrix for each."""
    left, out = op.inputs[0], op.outputs[0]
    if len(left.shape) == 2 and len(out.shape) == 3:
        return streaming(matmul_flops(1, left.shape[-1], 1, out.elements // out.shape[0]), op)
    return streaming(matmul_flops(1, left.shape[-1], 1, out.elements), op)


def _linear(op: Signature) -> Work:
    """`x W^T + b`; the bias is optional."""
    out = op.outputs[0].elements
    bias = out if len(op.inputs) > 2 else 0
    return streaming(matmul_flops(1, op.inputs[0].shape[-1], 1, out) + bias, op)


def _summed_product(op: Signature) -> Work:
    """`baddbmm` keeps the batch, `addbmm` sums over it: all products are computed."""
    batch, rows, inner = op.inputs[1].shape
    columns = op.inputs[2].shape[-1]
    return streaming(matmul_flops(rows, inner, columns, batch) + op.outputs[0].elements, op)


def _einsum(op: Signature) -> Work:
    return streaming(einsum_flops(op.text("equation"), [tensor.shape for tensor in op.inputs]), op)


def _convolution(op: Signature) -> Work:
    """The filter is `[out, in / groups, ...]`, or `[in, out / groups, ...]` when transposed."""
    weight = op.inputs[1].shape
    scanned = op.inputs[0] if op.flag("transposed") else op.outputs[0]
    bias = op.outputs[0].elements if len(op.inputs) > 2 else 0
    return streaming(conv_flops(scanned, weight[2:], weight[1]) + bias, op)


def _transposed_convolution(op: Signature) -> Work:
    weight = op.inputs[1].shape
    bias = op.outputs[0].elements if len(op.inputs) > 2 else 0
    return streaming(conv_flops(op.inputs[0], weight[2:], weight[1]) + bias, op)


def _convolution_backward(op: Signature) -> Work:
    """Each wanted gradient of input and filter takes as much as the forward product."""
    grad, weight = op.inputs[0], op.inputs[2].shape
    mask = op.attributes.get("output_mask") or [True, True, True]
    scanned = op.inputs[1] if op.flag("transposed") else grad
    products = sum(bool(wanted) for wanted in mask[:2])
    return streaming(products * conv_flops(scanned, weight[2:], weight[1]), op)


def _attention(op: Signature) -> Work:
    """Scaled dot-product attention over `[..., heads, length, size]`."""
    query, key, value = (tensor.shape for tensor in op.inputs[:3])
    batch = prod(query[:-2])
    flops = attention_flops(batch, 1, query[-2], key[-2], query[-1], value[-1])
    return streaming(flops, op)


def _attention_backward(op: Signature) -> Work:
    """Recomputes the scores and forms four products: five against the forward's two."""
    query, key, value = (tensor.shape for tensor in op.inputs[1:4])
    batch = prod(query[:-2])
    flops = attention_flops(batch, 1, query[-2], key[-2], query[-1], value[-1])
    return streaming(2.5 * flops, op)


def _flex_attention_backward(op: Signature) -> Work:
    """As `_attention_backward`, but query, key and value come first."""
    query, key, value = (tensor.shape for tensor in op.inputs[:3])
    batch = prod(query[:-2])
    flops = attention_flops(batch, 1, query[-2], key[-2], query[-1], value[-1])
    return streaming(2.5 * flops, op)


def _recurrent(gates: int) -> Formula:
    """`lstm.input` and its kin: the hidden size is the last of the state's dimensions."""

    def formula(op: Signature) -> Work:
        sequence, state = op.inputs[0].shape, op.inputs[1].shape
        hidden, layers = state[-1], op.integer("num_layers", 1)
        directions = 2 if op.flag("bidirectional") else 1
        steps_and_batch = prod(sequence[:-1])
        flops = recurrent_flops(1, steps_and_batch, sequence[-1], hidden, gates, directions)
        deeper = recurrent_flops(1, steps_and_batch, directions * hidden, hidden, gates, directions)
        return streaming(flops + (layers - 1) * deeper, op)

    return formula


def _recurrent_cell(gates: int) -> Formula:
    def formula(op: Signature) -> Work:
        batch, inputs = op.inputs[0].shape
        return streaming(recurrent_flops(1, batch, inputs, op.inputs[1].shape[-1], gates), op)

    return formula


def _fused_attention(op: Signature) -> Work:
    """The whole of `nn.MultiheadAttention`: three projections, attention, the output product."""
    batch, length, width = op.inputs[0].shape
    heads = op.integer("num_head", least=1)
    flops = matmul_flops(batch * length, width, 4 * width)
    size = width // heads
    return streaming(flops + attention_flops(batch, heads, length, length, size, size), op)


def _all(kind: OpKind, formula: Formula, *names: str) -> dict[str, OpCost]:
    return dict.fromkeys(names, OpCost(kind, formula))


ATEN_DENSE_OPS: dict[str, OpCost] = {
    **_all(OpKind.MATMUL, _product(0), "mm", "bmm", "matmul", "mv", "dot", "vdot", "inner",
           "_int_mm", "_scaled_mm"),
    **_all(OpKind.MATMUL, grouped_product, "_grouped_mm"),
    **_all(OpKind.MATMUL, _product(1, extra=1), "addmm", "addmv", "_addmm_activation"),
    **_all(OpKind.MATMUL, _summed_product, "baddbmm", "addbmm"),
    "linear": OpCost(OpKind.MATMUL, _linear),
    "einsum": OpCost(OpKind.MATMUL, _einsum),
    **_all(OpKind.CONV, _convolution, "convolution", "_convolution", "conv1d", "conv2d", "conv3d"),
    **_all(OpKind.CONV, _transposed_convolution, "conv_transpose1d", "conv_transpose2d",
           "conv_transpose3d"),
    "convolution_backward": OpCost(OpKind.CONV_GRAD, _convolution_backward),
    **_all(
        OpKind.ATTENTION, _attention,
        "scaled_dot_product_attention", "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math",
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    **_all(
        OpKind.ATTENTION, _attention_backward,
        "_scaled_dot_product_flash_attention_backward",
        "_scaled_dot_product_efficient_attention_backward",
        "_scaled_dot_product_cudnn_attention_backward",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "_native_multi_head_attention": OpCost(OpKind.ATTENTION, _fused_attention),
    "lstm": OpCost(OpKind.RECURRENT, _recurrent(4)),
    "gru": OpCost(OpKind.RECURRENT, _recurrent(3)),
    **_all(OpKind.RECURRENT, _recurrent(1), "rnn_tanh", "rnn_relu"),
    "lstm_cell": OpCost(OpKind.RECURRENT, _recurrent_cell(4)),
    "gru_cell": OpCost(OpKind.RECURRENT, _recurrent_cell(3)),
    **_all(OpKind.RECURRENT, _recurrent_cell(1), "rnn_tanh_cell", "rnn_relu_cell"),
}  # fmt: skip

HIGHER_ORDER_OPS: dict[str, OpCost] = {
    "flex_attention": OpCost(OpKind.ATTENTION, _attention),
    "flex_attention_backward": OpCost(OpKind.ATTENTION, _flex_attention_backward),
}
