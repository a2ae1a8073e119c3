"""The table of TensorFlow's op types: what kind each is, and what it costs."""

from collections.abc import Mapping

from graphs.costs.formulas import output_elements, streaming
from graphs.costs.tensorflow_dense import DENSE_OPS
from graphs.costs.tensorflow_elementwise import ELEMENTWISE_OPS
from graphs.costs.tensorflow_images import IMAGE_OPS
from graphs.costs.tensorflow_layers import LAYER_OPS
from graphs.costs.tensorflow_movement import MOVEMENT_OPS
from graphs.costs.tensorflow_state import STATE_OPS
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

TENSORFLOW_OPS: Mapping[str, OpCost] = {
    **DENSE_OPS,
    **ELEMENTWISE_OPS,
    **IMAGE_OPS,
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

_HOST_CODE = "it runs Python code that the graph does not hold: replace it by TensorFlow ops"
_ENGINE = "it runs what was compiled for one device: give the model from before the conversion"

#: Op types that hide what they do, and what a user can do about each.
OPAQUE_OPS: Mapping[str, str] = {
    "XlaCallModule": (
        "its StableHLO is compiled code to TensorFlow: export the model from JAX without native "
        "serialization (`jax2tf.convert(..., native_serialization=False)`), or from torch or Keras "
        "as ONNX, .pt2 or a SavedModel of TensorFlow ops"
    ),
    "PyFunc": _HOST_CODE,
    "PyFuncStateless": _HOST_CODE,
    "EagerPyFunc": _HOST_CODE,
    "NumpyFunction": _HOST_CODE,
    "TRTEngineOp": _ENGINE,
    "TPUExecute": _ENGINE,
    "TPUExecuteAndUpdateVariables": _ENGINE,
    "_XlaRun": _ENGINE,
    "XlaLaunch": _ENGINE,
    "NeuronOp": _ENGINE,
    "TfLiteSubgraphExecute": _ENGINE,
    "HexagonOp": _ENGINE,
    "RemoteFusedGraphExecute": _ENGINE,
}
#: For calls of functions that the graph does not hold.
MISSING_FUNCTION = "it calls a function that the file does not hold: export the whole model"
