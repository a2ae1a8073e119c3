"""LSTM layers of unrolled recurrent networks, in elementary ops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.training import tf1, weight


@dataclass(frozen=True)
class LstmCell:
    """One layer's weights, shared by all of its steps."""

    kernel: Any
    bias: Any
    hidden: int

    @classmethod
    def create(cls, inputs: int, hidden: int) -> "LstmCell":
        """Create the layer's variables in the current variable scope."""
        kernel = weight("kernel", (inputs + hidden, 4 * hidden))
        return cls(kernel, weight("bias", (4 * hidden,)), hidden)

    def zero_state(self, batch: int) -> tuple[Any, Any]:
        """Output and cell state before the first step."""
        return tf.zeros((batch, self.hidden)), tf.zeros((batch, self.hidden))

    def step(self, inputs: Sequence[Any], state: tuple[Any, Any]) -> tuple[Any, Any]:
        """One time step: the new output and cell state, each `[batch, hidden]`."""
        output, cell = state
        joined = tf.concat([*inputs, output], axis=1)
        gates = tf.nn.bias_add(tf.matmul(joined, self.kernel), self.bias)
        enter, candidate, keep, leave = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(keep + 1.0) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
        return tf.sigmoid(leave) * tf.tanh(cell), cell


def unrolled_layer(
    name: str, inputs: Sequence[Any], hidden: int, reverse: bool = False
) -> list[Any]:
    """An LSTM layer over a list of `[batch, features]` steps; its outputs in input order."""
    batch, features = inputs[0].shape.as_list()
    with tf1.variable_scope(name):
        cell = LstmCell.create(features, hidden)
        state = cell.zero_state(batch)
        outputs = []
        for step in reversed(inputs) if reverse else inputs:
            state = cell.step([step], state)
            outputs.append(state[0])
    return outputs[::-1] if reverse else outputs


def embedded_steps(name: str, tokens: Any, vocabulary: int, width: int) -> list[Any]:
    """Embeddings of `[batch, steps]` tokens as a list of `[batch, width]` steps."""
    with tf1.variable_scope(name):
        table = weight("table", (vocabulary, width))
        return list(tf.unstack(tf.gather(table, tokens), axis=1))
