"""GNMT: neural machine translation with attention, unrolled over both sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.recurrent_layers import LstmCell, embedded_steps, unrolled_layer
from graphs.workloads.training import Workload, adam, tf1, token_loss, training_workload, weight


@dataclass(frozen=True)
class GnmtConfig:
    """Sizes of a GNMT model."""

    layers: int = 2
    """LSTM layers of the decoder; the encoder has as many, the first of them in both directions."""
    hidden: int = 1024
    steps: int = 60
    """Tokens of the source and of the target sentence."""
    batch: int = 128
    vocabulary: int = 32_000


def gnmt(config: GnmtConfig = GnmtConfig()) -> Workload:
    """The training step of a GNMT model."""

    def loss() -> Any:
        shape = (config.batch, config.steps)
        source = tf1.placeholder(tf.int32, shape, "source")
        target = tf1.placeholder(tf.int32, shape, "target")
        labels = tf1.placeholder(tf.int32, shape, "labels")
        with tf1.variable_scope("encoder"):
            steps = embedded_steps("embedding", source, config.vocabulary, config.hidden)
            memory = tf.stack(_encode(steps, config), axis=1)
        with tf1.variable_scope("decoder"):
            steps = embedded_steps("embedding", target, config.vocabulary, config.hidden)
            outputs = _decode(steps, memory, config)
        with tf1.variable_scope("softmax"):
            kernel = weight("kernel", (config.hidden, config.vocabulary))
            losses = [
                token_loss(tf.matmul(output, kernel), label)
                for output, label in zip(outputs, tf.unstack(labels, axis=1), strict=True)
            ]
            return tf.add_n(losses)

    return training_workload(f"gnmt-{config.layers}", loss, adam)


def _encode(steps: Sequence[Any], config: GnmtConfig) -> list[Any]:
    forward = unrolled_layer("layer_0_forward", steps, config.hidden)
    backward = unrolled_layer("layer_0_backward", steps, config.hidden, reverse=True)
    outputs = [tf.concat(pair, axis=1) for pair in zip(forward, backward, strict=True)]
    for layer in range(1, config.layers):
        below = outputs
        outputs = unrolled_layer(f"layer_{layer}", below, config.hidden)
        if layer > 1:  # the layer above the bidirectional one changes the width
            outputs = [above + under for above, under in zip(outputs, below, strict=True)]
    return outputs


class _Attention:
    """Additive attention over the encoder's outputs `[batch, steps, features]`."""

    def __init__(self, memory: Any, hidden: int) -> None:
        batch, steps, features = memory.shape.as_list()
        self.memory = memory
        self.query_kernel = weight("query_kernel", (hidden, hidden))
        self.score = weight("score", (hidden,))
        flat = tf.reshape(memory, (batch * steps, features))
        keys = tf.matmul(flat, weight("key_kernel", (features, hidden)))
        self.keys = tf.reshape(keys, (batch, steps, hidden))

    def context(self, query: Any) -> Any:
        """The mean of the memory, weighted by how well it fits the query: `[batch, features]`."""
        projected = tf.expand_dims(tf.matmul(query, self.query_kernel), 1)
        scores = tf.reduce_sum(tf.tanh(self.keys + projected) * self.score, axis=2)
        weights = tf.expand_dims(tf.nn.softmax(scores), 1)
        return tf.squeeze(tf.matmul(weights, self.memory), 1)


def _decode(steps: Sequence[Any], memory: Any, config: GnmtConfig) -> list[Any]:
    """Decoder outputs; the attention that follows the first layer feeds every layer above."""
    features = memory.shape[-1]
    with tf1.variable_scope("attention"):
        attention = _Attention(memory, config.hidden)
    cells = []
    for layer in range(config.layers):
        with tf1.variable_scope(f"layer_{layer}"):
            cells.append(LstmCell.create(config.hidden + features, config.hidden))
    states = [cell.zero_state(config.batch) for cell in cells]
    context = tf.zeros((config.batch, features))
    outputs = []
    for step in steps:
        with tf1.name_scope("layer_0/"):
            states[0] = cells[0].step([step, context], states[0])
        with tf1.name_scope("attention/"):
            context = attention.context(states[0][0])
        output = states[0][0]
        for layer in range(1, config.layers):
            with tf1.name_scope(f"layer_{layer}/"):
                states[layer] = cells[layer].step([output, context], states[layer])
                above = states[layer][0]
                output = above + output if layer > 1 else above
        outputs.append(output)
    return outputs
