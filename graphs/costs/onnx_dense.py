"""Work of ONNX's arithmetic-bound ops: products, convolutions, recurrences, attention."""

from math import prod

from graphs.costs.einsum import einsum_flops
from graphs.costs.formulas import (
    attention_flops,
    conv_flops,
    matmul_flops,
    output_elements,
    recurrent_flops,
    streaming,
)
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind


def fused_activation(op: Signature) -> int:
    """One flop per output element where the op states an activation, as onnxruntime's do."""
    return op.outputs[0].elements if op.attributes.get("activation") else 0


def matmul(op: Signature) -> Work:
    """`A @ B` with NumPy broadcasting; the product's inner size is read from the first input."""
    shape = op.inputs[0].shape
    if op.flag("transBatchA") and len(shape) > 2:
        shape = (*shape[1:-1], shape[0], shape[-1])
    inner = shape[-2] if op.flag("transA") and len(shape) > 1 else shape[-1]
    flops = matmul_flops(1, inner, 1, op.outputs[0].elements)
    return streaming(flops + fused_activation(op), op)


def gemm(op: Signature) -> Work:
    """`alpha A B + beta C`, where C costs an addition."""
    work = matmul(op)
    addition = op.outputs[0].elements if len(op.inputs) > 2 else 0
    return streaming(work.flops + addition, op)


def einsum(op: Signature) -> Work:
    return streaming(einsum_flops(op.text("equation"), [tensor.shape for tensor in op.inputs]), op)


def quantized_gemm(op: Signature) -> Work:
    """A product on whole numbers, and the requantisation of its result."""
    return streaming(matmul(op).flops + 4 * op.outputs[0].elements, op)


def convolution(weight: int, flops_after: int = 0) -> Formula:
    """A convolution whose filter `[out, in / groups, ...]` is the input number `weight`.

    `flops_after` are per output element, such as a requantisation. A bias, a sum that is fused to
    the convolution and an activation cost one each. Channels may also come last.
    """

    def formula(op: Signature) -> Work:
        out, kernel = op.outputs[0], op.inputs[weight].shape
        flops = conv_flops(out, kernel[2:], kernel[1]) + flops_after * out.elements
        if weight == 1:
            flops += (len(op.inputs) - 2) * out.elements
        return streaming(flops + fused_activation(op), op)

    return formula


def conv_transpose(op: Signature) -> Work:
    """Each input element is spread over its kernel."""
    kernel = op.inputs[1].shape
    bias = op.outputs[0].elements if len(op.inputs) > 2 else 0
    return streaming(conv_flops(op.inputs[0], kernel[2:], kernel[1]) + bias, op)


def _deformable(op: Signature) -> Work:
    """A convolution whose every tap is sampled bilinearly (8 flops) once per input channel."""
    out, kernel, channels = op.outputs[0], op.inputs[1].shape, op.inputs[0].shape[1]
    samples = out.shape[0] * prod(out.shape[2:]) * prod(kernel[2:]) * channels
    return streaming(conv_flops(out, kernel[2:], kernel[1]) + 8 * samples, op)


def _causal_conv(op: Signature) -> Work:
    """One filter per channel along the last axis."""
    return streaming(conv_flops(op.outputs[0], op.inputs[1].shape[2:], 1), op)


def recurrent(gates: int, weight: int = 1, recurrence: int = 2) -> Formula:
    """RNN, GRU and LSTM: `X [steps, batch, inputs]`, `R [directions, gates hidden, hidden]`."""

    def formula(op: Signature) -> Work:
        first, second, inputs = op.inputs[0].shape
        directions = op.inputs[weight].shape[0]
        hidden = op.integer("hidden_size", 0) or op.inputs[recurrence].shape[-1]
        return streaming(recurrent_flops(first, second, inputs, hidden, gates, directions), op)

    return formula


def attention(op: Signature) -> Work:
    """Standard Attention: 4-D `[batch, heads, length, size]`, or 3-D with heads as attribute."""
    query, key, value = (tensor.shape for tensor in op.inputs[:3])
    if len(query) == 4:
        heads, size, value_size = query[1], query[3], value[3]
    else:
        heads = op.integer("q_num_heads", least=1)
        size = query[2] // heads
        value_size = value[2] // op.integer("kv_num_heads", heads, least=1)
    keys = op.outputs[1].shape[-2] if len(op.outputs) > 2 else key[-2]
    flops = attention_flops(query[0], heads, query[-2], keys, size, value_size)
    return streaming(flops, op)


def _linear_attention(op: Signature) -> Work:
    """Per token and head: decay, update and query a state of `key size x value size`."""
    batch, length, width = op.inputs[0].shape
    heads = op.integer("q_num_heads", least=1)
    value_size = op.inputs[2].shape[-1] // op.integer("kv_num_heads", least=1)
    return streaming(5.0 * batch * length * heads * (width // heads) * value_size, op)


def _determinant(op: Signature) -> Work:
    """LU factorisation, two thirds of the cube of the size per matrix."""
    size = op.inputs[0].shape[-1]
    return streaming(2.0 / 3.0 * size**3 * output_elements(op), op)


DENSE_OPS: dict[str, OpCost] = {
    "MatMul": OpCost(OpKind.MATMUL, matmul),
    "MatMulInteger": OpCost(OpKind.MATMUL, matmul),
    "QLinearMatMul": OpCost(OpKind.MATMUL, quantized_gemm),
    "Gemm": OpCost(OpKind.MATMUL, gemm),
    "Einsum": OpCost(OpKind.MATMUL, einsum),
    "Det": OpCost(OpKind.MATMUL, _determinant),
    "Conv": OpCost(OpKind.CONV, convolution(1)),
    "ConvInteger": OpCost(OpKind.CONV, convolution(1)),
    "QLinearConv": OpCost(OpKind.CONV, convolution(3, flops_after=4)),
    "ConvTranspose": OpCost(OpKind.CONV, conv_transpose),
    "DeformConv": OpCost(OpKind.CONV, _deformable),
    "CausalConvWithState": OpCost(OpKind.DEPTHWISE_CONV, _causal_conv),
    "RNN": OpCost(OpKind.RECURRENT, recurrent(1)),
    "GRU": OpCost(OpKind.RECURRENT, recurrent(3)),
    "LSTM": OpCost(OpKind.RECURRENT, recurrent(4)),
    "Attention": OpCost(OpKind.ATTENTION, attention),
    "LinearAttention": OpCost(OpKind.ATTENTION, _linear_attention),
}

#: ai.onnx.preview.
PREVIEW_DENSE_OPS: dict[str, OpCost] = {"FlexAttention": OpCost(OpKind.ATTENTION, attention)}
