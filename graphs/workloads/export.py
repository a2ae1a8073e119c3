"""Workloads as TensorFlow files: a GraphDef, or a SavedModel that initialises itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import EncodeError

from graphs.errors import ModelError
from graphs.importers.tensorflow_models.prune import FETCH_MARK
from graphs.whole_files import write_whole
from graphs.workloads.training import Workload, tf1

#: The only signature of a SavedModel that is written: one training step.
SIGNATURE = "train_step"
_INIT_OP = "__saved_model_init_op"


def write_graph_def(workload: Workload, path: Path) -> None:
    """Write the nodes of a training step, without the variables' initialisers.

    The results of the step are marked, as a GraphDef has no other place to name them.

    Raises:
        ModelError: the file cannot be written.
    """
    step = tf1.graph_util.extract_sub_graph(workload.graph.as_graph_def(), list(workload.fetches))
    for node in step.node:
        if node.name in workload.fetches:
            node.attr[FETCH_MARK].b = True
    _write(step, path)


def write_saved_model(workload: Workload, folder: Path) -> None:
    """Write a SavedModel whose signature `train_step` is a training step.

    It holds no weights, and lists no variables to restore: loading it with
    `tf.compat.v1.saved_model.load` runs their random initialisers.

    Raises:
        ModelError: the folder cannot be written.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    with workload.graph.as_default():
        copied = tf1.train.export_meta_graph()
    # A copy, so that the initialiser is not added to the workload's own graph.
    graph = tf.Graph()
    with graph.as_default():
        tf1.train.import_meta_graph(copied)
        initialiser = tf1.global_variables_initializer()
        complete = tf1.train.export_meta_graph()
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add()
    meta.CopyFrom(complete)
    meta.collection_def.clear()
    meta.meta_info_def.tags.append("train")
    _sign(meta, SIGNATURE, {name: name for name in workload.fetches}, graph)
    for op in graph.get_operations():
        if op.type == "Placeholder":
            _describe(meta.signature_def[SIGNATURE].inputs[op.name], op)
    _sign(meta, _INIT_OP, {_INIT_OP: initialiser.name}, graph)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be made ({error.strerror})") from error
    _write(model, folder / "saved_model.pb")


def _sign(meta: Any, key: str, results: Mapping[str, str], graph: tf.Graph) -> None:
    """Declare a signature: ops, or the first output of those that have one, as its results."""
    signature = meta.signature_def[key]
    for label, name in results.items():
        _describe(signature.outputs[label], graph.get_operation_by_name(name))


def _describe(info: Any, op: Any) -> None:
    info.name = op.outputs[0].name if op.outputs else op.name
    if op.outputs:
        info.dtype = op.outputs[0].dtype.as_datatype_enum
        info.tensor_shape.CopyFrom(op.outputs[0].shape.as_proto())


def _write(message: Any, path: Path) -> None:
    try:
        write_whole(path, message.SerializeToString(deterministic=True))
    except (OSError, EncodeError) as error:
        raise ModelError(f"{path}: cannot be written ({error})") from error
