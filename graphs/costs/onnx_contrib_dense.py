"""Work of com.microsoft's arithmetic-bound ops: fused and low-bit products, attention, experts."""

from math import log2, prod

from graphs.costs.formulas import attention_flops, matmul_flops, streaming
from graphs.costs.onnx_dense import (
    convolution,
    fused_activation,
    gemm,
    matmul,
    quantized_gemm,
    recurrent,
)
from graphs.costs.work import OpCost, Signature, TensorSpec, Work
from graphs.kinds import DType, OpKind


def _microsoft_attention(op: Signature) -> Work:
    """Input projection `[.., width] x [width, 3 hidden]`, then self-attention.

    Without a batch axis the tokens of all sequences are packed, and counted as one sequence.
    """
    tokens, columns = op.inputs[0].shape, op.inputs[1].shape[-1]
    batch, length, width = tokens if len(tokens) == 3 else (1, *tokens)
    hidden = op.outputs[0].shape[-1]
    heads = op.integer("num_heads", least=1)
    keys = op.outputs[1].shape[-2] if len(op.outputs) > 1 else length
    flops = matmul_flops(batch * length, width, columns)
    flops += attention_flops(batch, heads, length, keys, hidden // heads, hidden // heads)
    return streaming(flops, op)


def _multi_head_attention(op: Signature) -> Work:
    """Projected `[batch, length, hidden]` inputs, or all three packed in one of five dimensions."""
    query = op.inputs[0].shape
    heads = op.integer("num_heads", least=1)
    batch, length = query[0], query[1]
    hidden = op.outputs[0].shape[-1]
    key = op.inputs[1].shape if len(op.inputs) > 1 else ()
    if len(op.outputs) > 1:
        keys = op.outputs[1].shape[-2]
    elif len(query) == 3 and len(key) > 2:
        keys = key[2] if len(key) == 4 else key[1]
    else:
        keys = length
    size = hidden // heads
    return streaming(attention_flops(batch, heads, length, keys, size, size), op)


def _packed_attention(op: Signature) -> Work:
    """Tokens of all sequences without padding, counted as one sequence."""
    tokens, heads = op.inputs[0].shape[0], op.integer("num_heads", least=1)
    size = op.outputs[0].shape[-1] // heads
    return streaming(attention_flops(1, heads, tokens, tokens, size, size), op)


def _low_bit_matmul(op: Signature) -> Work:
    """Weights of a few bits: the product; they are unpacked in registers, on the way."""
    inner = op.integer("K")
    return streaming(2.0 * op.outputs[0].elements * inner + fused_activation(op), op)


def _low_bit_projections(op: Signature) -> Work:
    """Several products of one normalised input, `[.., K]`."""
    columns = sum(op.integer(name, 0) for name in ("N", "Nq")) + 2 * op.integer("Nkv", 0)
    gates = 2 if "N" in op.attributes else 1  # a gated layer multiplies twice
    source = op.inputs[0]
    rows = source.elements // max(source.shape[-1], 1)
    flops = matmul_flops(rows, op.integer("K"), gates * columns)
    return streaming(flops + 7 * source.elements, op)


def _distances(op: Signature) -> Work:
    """A subtraction, a square and a sum for every pair of rows and every feature."""
    return streaming(3.0 * op.outputs[0].elements * op.inputs[0].shape[-1], op)


def _spectrum(op: Signature) -> Work:
    """5 n log2 n per transform of n numbers, half of it for real signals."""
    largest = max(op.inputs[0].elements, op.outputs[0].elements)
    length = max(*op.inputs[0].shape[-2:], *op.outputs[0].shape[-2:], 2)
    return streaming(2.5 * largest * log2(length), op)


#: Further inputs of experts (scales, zero points) are this much smaller than their weights.
_SMALLEST_SHARE = 8


def _mixture_of_experts(op: Signature) -> Work:
    """Each token passes all layers of `k` experts; of the others nothing is read.

    Weights are `[experts, rows, columns]`: the first layer (of twice as many rows where a gate is
    fused to it), the second, and a third where the gate has weights of its own. Quantised ones are
    packed, `expert_weight_bits` each. Tokens may choose different experts, so that up to
    `tokens x k` experts are read.
    """
    hidden = op.inputs[0].shape[-1]
    tokens = op.inputs[0].elements // max(hidden, 1)
    chosen, experts = op.integer("k", 1), op.inputs[2].shape[0]
    weights = _expert_weights(op)
    numbers = [
        prod(weight.shape[1:]) * _numbers_per_element(op, weight, layer)
        for weight, layer in weights
    ]
    flops = 2.0 * tokens * chosen * sum(numbers)
    stored = sum(t.bytes for t in op.inputs[2:] if t.shape[:1] == (experts,))
    share = min(tokens * chosen / max(experts, 1), 1.0)
    return Work(flops, op.input_bytes - (1 - share) * stored, op.output_bytes)


def _expert_weights(op: Signature) -> list[tuple[TensorSpec, int]]:
    """The weights among the inputs, with the number of their layer: one, two or three."""
    first = op.inputs[2]
    alike = [
        tensor
        for tensor in op.inputs[2:]
        if len(tensor.shape) == 3 and tensor.dtype == first.dtype
        if tensor.elements * _SMALLEST_SHARE >= first.elements
    ]
    return [(tensor, layer) for layer, tensor in enumerate(alike[:3], start=1)]


def _numbers_per_element(op: Signature, weight: TensorSpec, layer: int) -> int:
    """How many weights one element of a packed tensor holds."""
    if op.op_type != "QMoE" or weight.dtype != DType.INT8 or op.text("quant_type") == "fp8":
        return 1
    common = op.integer("expert_weight_bits", 4)
    return 8 // op.integer(f"fc{layer}_expert_weight_bits", common, least=1)


#: com.microsoft.
MICROSOFT_DENSE_OPS: dict[str, OpCost] = {
    "FusedMatMul": OpCost(OpKind.MATMUL, matmul),
    "TransposeMatMul": OpCost(OpKind.MATMUL, matmul),
    "FusedGemm": OpCost(OpKind.MATMUL, gemm),
    "GemmFastGelu": OpCost(OpKind.MATMUL, gemm),
    "GemmFloat8": OpCost(OpKind.MATMUL, gemm),
    "QGemm": OpCost(OpKind.MATMUL, quantized_gemm),
    "DynamicQuantizeMatMul": OpCost(OpKind.MATMUL, quantized_gemm),
    "MatMulIntegerToFloat": OpCost(OpKind.MATMUL, quantized_gemm),
    "MatMulInteger16": OpCost(OpKind.MATMUL, matmul),
    "MatMulNBits": OpCost(OpKind.MATMUL, _low_bit_matmul),
    "MatMulBnb4": OpCost(OpKind.MATMUL, _low_bit_matmul),
    "MoE": OpCost(OpKind.MATMUL, _mixture_of_experts),
    "QMoE": OpCost(OpKind.MATMUL, _mixture_of_experts),
    "FusedConv": OpCost(OpKind.CONV, convolution(1)),
    "NhwcFusedConv": OpCost(OpKind.CONV, convolution(1)),
    "DynamicQuantizeLSTM": OpCost(OpKind.RECURRENT, recurrent(4)),
    "Attention": OpCost(OpKind.ATTENTION, _microsoft_attention),
    "QAttention": OpCost(OpKind.ATTENTION, _microsoft_attention),
    "MultiHeadAttention": OpCost(OpKind.ATTENTION, _multi_head_attention),
    "DecoderMaskedMultiHeadAttention": OpCost(OpKind.ATTENTION, _multi_head_attention),
    "GroupQueryAttention": OpCost(OpKind.ATTENTION, _multi_head_attention),
    "SparseAttention": OpCost(OpKind.ATTENTION, _multi_head_attention),
    "NhwcConv": OpCost(OpKind.CONV, convolution(1)),
    "FusedMatMulActivation": OpCost(OpKind.MATMUL, matmul),
    "SparseToDenseMatMul": OpCost(OpKind.MATMUL, matmul),
    "MatMulFpQ4": OpCost(OpKind.MATMUL, matmul),
    "MatMulBlockQuantizedFp8Weight": OpCost(OpKind.MATMUL, matmul),
    "MatMulBlockQuantizedFp4Weight": OpCost(OpKind.MATMUL, matmul),
    "QOrderedMatMul": OpCost(OpKind.MATMUL, quantized_gemm),
    "MatMulNBitsQkv": OpCost(OpKind.MATMUL, _low_bit_projections),
    "MatMulNBitsMlp": OpCost(OpKind.MATMUL, _low_bit_projections),
    "CDist": OpCost(OpKind.MATMUL, _distances),
    "Rfft": OpCost(OpKind.SIGNAL, _spectrum),
    "Irfft": OpCost(OpKind.SIGNAL, _spectrum),
    "DecoderMaskedSelfAttention": OpCost(OpKind.ATTENTION, _microsoft_attention),
    "PackedAttention": OpCost(OpKind.ATTENTION, _microsoft_attention),
    "PackedMultiHeadAttention": OpCost(OpKind.ATTENTION, _packed_attention),
}
