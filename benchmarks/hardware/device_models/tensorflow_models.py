"""Small TensorFlow models of ten to forty milliseconds a step, and a training step, as GraphDefs.

python -m device_models.tensorflow_models FOLDER      # from benchmarks/
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from graphs.workloads.export import write_graph_def
from graphs.workloads.training import Workload

tf1 = tf.compat.v1


def _weight(name: str, *shape: int) -> tf.Tensor:
    return tf1.get_variable(name, shape, tf.float32, use_resource=True)


def _convolution(x: tf.Tensor, name: str, filters: int, kernel: int = 3) -> tf.Tensor:
    weights = _weight(f"{name}/filters", kernel, kernel, int(x.shape[-1]), filters)
    y = tf.nn.conv2d(x, weights, 1, "SAME", name=f"{name}/convolution")
    return tf.nn.relu(tf.nn.bias_add(y, _weight(f"{name}/bias", filters)), name=f"{name}/relu")


def branches() -> list[str]:
    """Towers that meet at the end only."""
    image = tf1.placeholder(tf.float32, (1, 56, 56, 32), "image")
    ends = []
    for tower in range(2):
        x = image
        for layer in range(6):
            x = _convolution(x, f"tower{tower}/layer{layer}", 64)
        ends.append(tf.reduce_mean(x, (1, 2)))
    tf.add_n(ends, name="result")
    return ["result"]


def inception() -> list[str]:
    """Blocks of four branches that are joined again."""
    x = tf1.placeholder(tf.float32, (1, 56, 56, 64), "image")
    for block in range(4):
        name = f"block{block}"
        parts = [_convolution(x, f"{name}/a", 32, 1)]
        y = _convolution(x, f"{name}/b1", 32, 1)
        parts.append(_convolution(y, f"{name}/b2", 32))
        y = _convolution(_convolution(x, f"{name}/c1", 32, 1), f"{name}/c2", 32)
        parts.append(_convolution(y, f"{name}/c3", 32))
        pooled = tf.nn.avg_pool2d(x, 3, 1, "SAME", name=f"{name}/pool")
        parts.append(_convolution(pooled, f"{name}/d", 32, 1))
        x = tf.concat(parts, 3, name=f"{name}/joined")
    tf.reduce_mean(x, (1, 2), name="result")
    return ["result"]


def lstm() -> list[str]:
    """An LSTM of three layers, unrolled over six steps."""
    hidden, batch, layers = 512, 32, 3
    sequence = tf1.placeholder(tf.float32, (6, batch, hidden), "sequence")
    weights = [_weight(f"layer{at}/weights", 2 * hidden, 4 * hidden) for at in range(layers)]
    zero = tf.zeros((batch, hidden))
    states = [(zero, zero)] * layers
    for x in tf.unstack(sequence):
        for at in range(layers):
            h, memory = states[at]
            gates = tf.matmul(tf.concat([x, h], 1), weights[at])
            i, f, g, o = tf.split(gates, 4, 1)
            memory = tf.sigmoid(f) * memory + tf.sigmoid(i) * tf.tanh(g)
            x = tf.sigmoid(o) * tf.tanh(memory)
            states[at] = (x, memory)
    tf.identity(states[-1][0], name="result")
    return ["result"]


def training_step() -> list[str]:
    """Two towers of a perceptron, their losses, gradients and updates."""
    width, batch = 768, 128
    x = tf1.placeholder(tf.float32, (batch, width), "features")
    losses = []
    for tower in range(2):
        y = x
        for layer in range(3):
            weights = _weight(f"tower{tower}/layer{layer}", width, width)
            y = tf.nn.relu(tf.matmul(y, weights))
        losses.append(tf.reduce_mean(tf.square(y)))
    loss = tf.add_n(losses, name="loss")
    step = tf1.train.GradientDescentOptimizer(0.01).minimize(loss, name="train_op")
    return [step.name, "loss"]


TENSORFLOW_MODELS: Mapping[str, Callable[[], list[str]]] = {
    "tf-branches": branches,
    "tf-inception": inception,
    "tf-lstm": lstm,
    "tf-training-step": training_step,
}


def export_tensorflow(name: str, folder: Path) -> Path:
    """Write one model as a GraphDef; returns its path."""
    graph = tf.Graph()
    with graph.as_default():
        fetches = TENSORFLOW_MODELS[name]()
    path = folder / f"{name}.pb"
    write_graph_def(Workload(name, graph, tuple(fetches), 0), path)
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for model in TENSORFLOW_MODELS:
        print(export_tensorflow(model, target))
