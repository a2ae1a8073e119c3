"""The table of TensorFlow's op types: what kind each is, and what it costs."""

from collections.abc import Mapping

from graphs.costs.formulas import output_elements, streaming
from graphs.costs.tensorflow_dense import DENSE_OPS
from graphs.costs.tensorflow_elementwise import ELEMENTWISE_OPS
from graphs.costs.tensorflow_layers import LAYER_OPS
from graphs.costs.tensorflow_movement import MOVEMENT_OPS
from graphs.costs.tensorflow_state import STATE_OPS
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

TENSORFLOW_OPS: Mapping[str, OpCost] = {
    **DENSE_OPS,
    **ELEMENTWISE_OPS,
    **LAYER_OPS,
    **MOVEMENT_OPS,
    **STATE_OPS,
}

#: The attributes that formulas look at.
COST_ATTRIBUTES = ("adj_x", "equation", "ksize", "is_training", "depth_radius")


def estimate_work(op: Signature) -> Work:
    """An op without a formula: one flop per element written, every tensor touched once."""
    return streaming(float(output_elements(op)), op)


ESTIMATED = OpCost(OpKind.CUSTOM, estimate_work)
