"""Which nodes runtimes compute once, when a model is loaded: those that read weights alone.

Only shapes are needed to fold them here; their values are never computed. As in onnxruntime,
nodes stay as they are where they draw random numbers, steer control flow, or dequantise: what is
stored in a few bits is kept so and unpacked where it is used.
"""

from collections.abc import Mapping

from onnx import NodeProto

from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.topology import bodies_of, read_names
from graphs.importers.onnx_models.values import OnnxValue
from graphs.kinds import OpKind

_DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})
_NEVER = frozenset(
    {"DequantizeLinear", "DequantizeBFP", "DequantizeWithOrder", "MemcpyFromHost", "MemcpyToHost"}
)
#: Random numbers, unknown work, and what changes the state of a model.
_KINDS_NEVER = frozenset(
    {
        OpKind.RANDOM, OpKind.CUSTOM, OpKind.CONTROL_FLOW, OpKind.CONTROL, OpKind.HOST,
        OpKind.OPTIMIZER_UPDATE, OpKind.ACCUMULATE,
    }
)  # fmt: skip


def is_folded(
    node: NodeProto,
    kind: OpKind,
    outputs: Mapping[str, OnnxValue],
    scope: Mapping[str, OnnxValue],
) -> bool:
    """Whether a node's results are known as soon as the weights are.

    Args:
        node: any node but `Constant`.
        kind: what it was analysed as.
        outputs: what it makes.
        scope: the values of all that it reads.
    """
    if standard_domain(node.domain) not in _DOMAINS or node.op_type in _NEVER:
        return False
    if kind in _KINDS_NEVER or any(True for _ in bodies_of(node)):
        return False
    if "Dropout" in node.op_type and not _is_inference_dropout(node, scope):
        return False
    reads = read_names(node)
    tensors = all(value.given_type is None for value in outputs.values())
    return tensors and bool(reads) and all(scope[name].fixed for name in reads)


def _is_inference_dropout(node: NodeProto, scope: Mapping[str, OnnxValue]) -> bool:
    if node.op_type != "Dropout" or standard_domain(node.domain):
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    training = scope[node.input[2]].constant
    return training is not None and not training.any()
