"""Flops of a TensorFlow model by TensorFlow's own profiler."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def profiled_flops(path: Path, dims: Mapping[str, int]) -> float:
    """Flops of a SavedModel's default signature, or of a GraphDef; open dimensions as given or 1.

    Loops are counted once by the profiler, whatever their trips.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    frozen = path.is_dir()
    definition = _frozen(path, dims) if frozen else v1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        options = v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        found = v1.profiler.profile(graph, options=options)
    return float(found.total_float_ops)


def _frozen(path: Path, dims: Mapping[str, int]) -> Any:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    loaded = tf.saved_model.load(str(path))  # its variables live as long as it does
    function = loaded.signatures["serving_default"]
    _, keywords = function.structured_input_signature
    given = {
        name: tf.TensorSpec(
            [dims.get(f"{name}:{axis}", 1) if size is None else size
             for axis, size in enumerate(spec.shape)],
            spec.dtype,
        )
        for name, spec in keywords.items()
    }  # fmt: skip

    def call(**feeds: Any) -> Any:
        return function(**feeds)

    whole = tf.function(call).get_concrete_function(**given)
    return convert_variables_to_constants_v2(whole).graph.as_graph_def()
