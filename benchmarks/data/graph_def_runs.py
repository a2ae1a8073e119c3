"""Training steps as TensorFlow files with fixed random numbers, and how to run them."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from graphs.importers.tensorflow_models.prune import FETCH_MARK
from graphs.workloads.export import write_saved_model
from graphs.workloads.inception import InceptionConfig, inception_v3
from graphs.workloads.rnnlm import RnnlmConfig, rnnlm
from graphs.workloads.training import Workload
from graphs.workloads.transformer_xl import TransformerXlConfig, transformer_xl

tf1 = tf.compat.v1
_STEPS = 3
_INIT = "init"
_RANDOM = {"TruncatedNormal", "RandomUniform", "RandomStandardNormal", "RandomUniformInt"}


def build(name: str) -> Workload:
    """A workload at a size that a CPU runs in seconds."""
    if name == "rnnlm":
        return rnnlm(RnnlmConfig(layers=2, hidden=128, steps=10, batch=4, vocabulary=500))
    if name == "inception-v3":
        return inception_v3(InceptionConfig(batch=2, image_size=107))
    return transformer_xl(
        TransformerXlConfig(layers=2, width=64, heads=4, inner=128, steps=32, memory=32, batch=2)
    )


def write_models(workload: Workload, folder: Path) -> tuple[Path, Path]:
    """The step as a GraphDef with initialisers, and as a SavedModel; both draw the same numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "saved"
    write_saved_model(workload, saved)
    with workload.graph.as_default():
        tf1.global_variables_initializer()  # called init
    definition = workload.graph.as_graph_def()
    _fix_seeds(definition)
    for node in definition.node:
        if node.name in workload.fetches:
            node.attr[FETCH_MARK].b = True
    path = folder / "step.pb"
    path.write_bytes(definition.SerializeToString())
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    for meta in model.meta_graphs:
        _fix_seeds(meta.graph_def)
    (saved / "saved_model.pb").write_bytes(model.SerializeToString())
    return path, saved


def _fix_seeds(definition: Any) -> None:
    for node in definition.node:
        if node.op in _RANDOM:
            node.attr["seed"].i = node.attr["seed2"].i = 1 + sum(node.name.encode()) % 1000


def run_graph_def(path: Path, workload: Workload) -> list[float]:
    """Losses of three steps."""
    definition = tf1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
    with tf1.Session(graph=graph, config=_config()) as session:
        session.run(_INIT)
        return _losses(session, graph, workload)


def run_saved_model(folder: Path, workload: Workload) -> list[float]:
    """Losses of three steps."""
    with tf1.Session(graph=tf.Graph(), config=_config()) as session:
        tf1.saved_model.load(session, ["train"], str(folder))
        return _losses(session, session.graph, workload)


def _losses(session: Any, graph: Any, workload: Workload) -> list[float]:
    loss, step = workload.fetches
    draw = np.random.default_rng(0)
    feeds = {}
    for op in graph.get_operations():
        if op.type == "Placeholder":
            tensor = op.outputs[0]
            shape = [size or 1 for size in tensor.shape.as_list()]
            whole = tensor.dtype.is_integer
            values = draw.integers(0, 100, shape) if whole else draw.normal(size=shape)
            feeds[tensor] = values.astype(tensor.dtype.as_numpy_dtype)
    return [float(session.run([f"{loss}:0", step], feeds)[0]) for _ in range(_STEPS)]


def _config() -> Any:
    config = tf1.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=False)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config
