"""RNNLM: a language model of stacked LSTM layers, unrolled over time."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.recurrent_layers import embedded_steps, unrolled_layer
from graphs.workloads.training import (
    Workload,
    adam,
    tf1,
    token_loss,
    training_workload,
    weight,
)


@dataclass(frozen=True)
class RnnlmConfig:
    """Sizes of an RNNLM."""

    layers: int = 2
    hidden: int = 2048
    """Width of embeddings and LSTM layers."""
    steps: int = 40
    """Time steps that are unrolled."""
    batch: int = 64
    vocabulary: int = 10_000


def rnnlm(config: RnnlmConfig = RnnlmConfig()) -> Workload:
    """The training step of an RNNLM."""

    def loss() -> Any:
        tokens = tf1.placeholder(tf.int32, (config.batch, config.steps), "tokens")
        labels = tf1.placeholder(tf.int32, (config.batch, config.steps), "labels")
        outputs = embedded_steps("embedding", tokens, config.vocabulary, config.hidden)
        for layer in range(config.layers):
            outputs = unrolled_layer(f"layer_{layer}", outputs, config.hidden)
        with tf1.variable_scope("softmax"):
            kernel = weight("kernel", (config.hidden, config.vocabulary))
            bias = weight("bias", (config.vocabulary,))
            losses = [
                token_loss(tf.nn.bias_add(tf.matmul(output, kernel), bias), label)
                for output, label in zip(outputs, tf.unstack(labels, axis=1), strict=True)
            ]
            return tf.add_n(losses)

    return training_workload(f"rnnlm-{config.layers}", loss, adam)
