"""WaveNet: stacks of dilated causal convolutions over raw audio."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.training import Workload, adam, tf1, token_loss, training_workload, weight


@dataclass(frozen=True)
class WavenetConfig:
    """Sizes of a WaveNet."""

    stacks: int = 2
    layers: int = 18
    """Layers in all; within a stack the dilation doubles from layer to layer."""
    residual: int = 128
    skip: int = 256
    steps: int = 8192
    """Samples of a training clip."""
    batch: int = 4
    levels: int = 256
    """Quantisation levels of a sample."""


def wavenet(config: WavenetConfig = WavenetConfig()) -> Workload:
    """The training step of a WaveNet."""

    def loss() -> Any:
        shape = (config.batch, config.steps)
        samples = tf1.placeholder(tf.int32, shape, "samples")
        labels = tf1.placeholder(tf.int32, shape, "labels")
        x = tf.expand_dims(tf.one_hot(samples, config.levels), 1)
        with tf1.variable_scope("input"):
            x = _causal("conv", x, config.residual, 1)
        skips = []
        per_stack = config.layers // config.stacks
        for layer in range(config.layers):
            stack, level = divmod(layer, per_stack)
            with tf1.variable_scope(f"stack_{stack}/layer_{level}"):
                x, skip = _layer(x, 1 << level, config)
                skips.append(skip)
        with tf1.variable_scope("output"):
            y = tf.nn.relu(tf.add_n(skips))
            y = tf.nn.relu(_pointwise("first", y, config.skip))
            return token_loss(tf.squeeze(_pointwise("second", y, config.levels), 1), labels)

    return training_workload(f"wavenet-{config.stacks}x{config.layers}", loss, adam)


def _layer(x: Any, dilation: int, config: WavenetConfig) -> tuple[Any, Any]:
    gated = tf.tanh(_causal("filter", x, config.residual, dilation)) * tf.sigmoid(
        _causal("gate", x, config.residual, dilation)
    )
    residual = x + _pointwise("residual", gated, config.residual)
    return residual, _pointwise("skip", gated, config.skip)


def _causal(name: str, x: Any, channels: int, dilation: int) -> Any:
    """A convolution of width two over `[batch, 1, steps, channels]` that sees no future."""
    with tf1.variable_scope(name):
        filters = weight("filters", (1, 2, x.shape[-1], channels))
        padded = tf.pad(x, ((0, 0), (0, 0), (dilation, 0), (0, 0)))
        y = tf.nn.conv2d(padded, filters, 1, "VALID", dilations=[1, 1, dilation, 1])
        return tf.nn.bias_add(y, weight("bias", (channels,)))


def _pointwise(name: str, x: Any, channels: int) -> Any:
    with tf1.variable_scope(name):
        y = tf.nn.conv2d(x, weight("filters", (1, 1, x.shape[-1], channels)), 1, "VALID")
        return tf.nn.bias_add(y, weight("bias", (channels,)))
