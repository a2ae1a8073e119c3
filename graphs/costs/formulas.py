"""Work of the canonical kinds, as functions of shapes; framework tables pick among them.

Every multiply-add counts as two flops. Bytes are those of a kernel that reads each input once
and writes each output once, unless an op touches only part of an input.
"""

from math import prod

from graphs.costs.work import Formula, Signature, TensorSpec, Work

#: Flops of elementary operations, the same in every framework's table.
SIMPLE = 1.0
DIVISION = 4.0
TRANSCENDENTAL = 10.0
POWER = 20.0


def streaming(flops: float, op: Signature) -> Work:
    """Reads every input and writes every output once."""
    return Work(flops, op.input_bytes, op.output_bytes)


def output_elements(op: Signature) -> int:
    return sum(tensor.elements for tensor in op.outputs)


def input_elements(op: Signature) -> int:
    return sum(tensor.elements for tensor in op.inputs)


def per_output_element(flops_per_element: float) -> Formula:
    """Elementwise work: a fixed number of flops for each element written."""
    return lambda op: streaming(flops_per_element * output_elements(op), op)


def per_input_element(flops_per_element: float) -> Formula:
    """Reductions and the like: a fixed number of flops for each element read."""
    return lambda op: streaming(flops_per_element * input_elements(op), op)


def free(op: Signature) -> Work:
    """No kernel: views, constants, control."""
    return Work()


def copying(op: Signature) -> Work:
    """Moves as many bytes as it writes (slices, gathers, transposes, concatenations)."""
    return Work(0.0, op.output_bytes, op.output_bytes)


def scattering(updates: TensorSpec) -> Work:
    """Adds updates into a buffer in place: reads the update and the target, writes the target."""
    return Work(updates.elements, 2 * updates.bytes, updates.bytes)


def matmul_flops(rows: int, inner: int, columns: int, batch: int = 1) -> float:
    """Flops of a batched `[rows, inner] @ [inner, columns]`."""
    return 2.0 * batch * rows * inner * columns


def conv_flops(output: TensorSpec, kernel: tuple[int, ...], channels_per_group: int) -> float:
    """Flops of a convolution from its output, its spatial kernel and input channels per group.

    The gradients with respect to input and filter take as many, with the forward output's spec.
    """
    return 2.0 * output.elements * prod(kernel) * channels_per_group


def recurrent_flops(
    steps: int, batch: int, inputs: int, hidden: int, gates: int, directions: int = 1
) -> float:
    """Flops of a recurrent layer: both matrix products of every gate, plus gate arithmetic."""
    products = matmul_flops(batch, inputs + hidden, gates * hidden)
    return float(directions * steps * (products + 8 * gates * batch * hidden))


def attention_flops(
    batch: int, heads: int, queries: int, keys: int, head_size: int, value_size: int
) -> float:
    """Flops of scaled dot-product attention: scores, softmax, weighted sum."""
    scores = matmul_flops(queries, head_size, keys, batch * heads)
    values = matmul_flops(queries, keys, value_size, batch * heads)
    return scores + values + 5.0 * batch * heads * queries * keys
