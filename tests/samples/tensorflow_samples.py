"""Small TensorFlow training graphs that the TensorFlow tests share."""

from typing import Any

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1


def training_graph(batch: int | None = 4, resource: bool = True) -> tuple[Any, str]:
    """Convolution, batch norm, pooling, an embedding, a shared weight, Adam; and its train op."""
    graph = tf.Graph()
    with graph.as_default():
        images = tf1.placeholder(tf.float32, (batch, 8, 8, 3), "images")
        tokens = tf1.placeholder(tf.int32, (batch, 5), "tokens")

        def weight(name: str, *shape: int) -> Any:
            return tf1.get_variable(name, shape, tf.float32, use_resource=resource)

        x = tf.nn.conv2d(images, weight("filters", 3, 3, 3, 16), 2, "SAME")
        x, _, _ = tf1.nn.fused_batch_norm(x, weight("scale", 16), weight("offset", 16))
        x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "SAME")
        x = tf.reshape(x, (-1, 64))
        table = weight("table", 50, 64)
        words = tf.unstack(tf.gather(table, tokens), axis=1)
        kernel = weight("kernel", 64, 64)
        for word in words:
            x = tf.tanh(tf.matmul(x, kernel) + word)
        logits = tf.nn.bias_add(tf.matmul(x, weight("out", 64, 10)), weight("bias", 10))
        labels = tf.zeros_like(tokens[:, 0])
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits),
            name="loss",
        )
        step = tf1.train.get_or_create_global_step()
        train_op = tf1.train.AdamOptimizer(0.1).minimize(loss, step, name="train_op")
        tf1.train.Saver()
        tf1.global_variables_initializer()
    return graph, train_op.name


PARAMETERS = 3 * 3 * 3 * 16 + 16 + 16 + 50 * 64 + 64 * 64 + 64 * 10 + 10


def feeds(graph: Any) -> dict[Any, Any]:
    """Values for the placeholders of `training_graph(batch=4)`."""
    values = np.random.default_rng(0)
    return {
        graph.get_tensor_by_name("images:0"): values.normal(size=(4, 8, 8, 3)).astype(np.float32),
        graph.get_tensor_by_name("tokens:0"): values.integers(0, 50, (4, 5)).astype(np.int32),
    }


def run_all(graph: Any, names: list[str]) -> dict[str, list[int | None]]:
    """Run the named ops in a session: bytes of each of their outputs, None if not fetchable."""
    fetchable = [
        tensor
        for name in names
        for tensor in graph.get_operation_by_name(name).outputs
        if tensor.dtype.base_dtype not in {tf.resource, tf.variant}
    ]
    with graph.as_default():
        initialise = tf1.global_variables_initializer()
    with tf1.Session(graph=graph) as session:
        session.run(initialise)
        values = session.run({t.name: t for t in fetchable}, feeds(graph))
    return {
        name: [
            np.asarray(values[tensor.name]).nbytes if tensor.name in values else None
            for tensor in graph.get_operation_by_name(name).outputs
        ]
        for name in names
    }
