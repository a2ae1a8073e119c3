"""Transformer-XL: attention over the segment and a memory, with relative positions."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.training import (
    Workload,
    adam,
    tf1,
    token_loss,
    training_workload,
    variable,
    weight,
)


@dataclass(frozen=True)
class TransformerXlConfig:
    """Sizes of a Transformer-XL; the defaults are the small character-level model's."""

    layers: int = 2
    width: int = 512
    heads: int = 8
    inner: int = 2048
    """Width of the feed-forward layers."""
    steps: int = 512
    """Tokens of a segment."""
    memory: int = 512
    """Tokens of earlier segments that attention sees."""
    batch: int = 16
    vocabulary: int = 204
    dropout: float = 0.1

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def transformer_xl(config: TransformerXlConfig = TransformerXlConfig()) -> Workload:
    """The training step of a Transformer-XL."""

    def loss() -> Any:
        shape = (config.batch, config.steps)
        tokens = tf1.placeholder(tf.int32, shape, "tokens")
        labels = tf1.placeholder(tf.int32, shape, "labels")
        with tf1.variable_scope("embedding"):
            table = weight("table", (config.vocabulary, config.width))
            x = _dropout(tf.gather(table, tokens) * config.width**0.5, config)
        with tf1.variable_scope("positions"):
            positions = _dropout(_positions(config), config)
        biases = [weight(name, (config.heads, config.head_width)) for name in ("content", "place")]
        for layer in range(config.layers):
            with tf1.variable_scope(f"layer_{layer}"):
                x = _layer(x, positions, biases, config)
        with tf1.variable_scope("softmax"):
            kernel = weight("kernel", (config.width, config.vocabulary))
            flat = tf.reshape(x, (config.batch * config.steps, config.width))
            logits = tf.nn.bias_add(tf.matmul(flat, kernel), weight("bias", (config.vocabulary,)))
            return token_loss(logits, tf.reshape(labels, (-1,)))

    return training_workload(f"transformer-xl-{config.layers}", loss, adam)


def _positions(config: TransformerXlConfig) -> Any:
    """Sine and cosine encodings of distances, farthest first: `[memory + steps, width]`."""
    distances = tf.range(config.memory + config.steps - 1, -1, -1.0)
    frequencies = tf.exp(tf.range(0, config.width, 2.0) * (-9.2103 / config.width))
    angles = tf.expand_dims(distances, 1) * tf.expand_dims(frequencies, 0)
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=1)


def _layer(x: Any, positions: Any, biases: list[Any], config: TransformerXlConfig) -> Any:
    memory_shape = (config.batch, config.memory, config.width)
    memory = variable("memory", memory_shape, trainable=False)
    seen = tf.concat([tf.stop_gradient(memory.read_value()), x], axis=1)
    kept = tf.stop_gradient(seen[:, -config.memory :])
    with tf1.control_dependencies([seen]):
        update = memory.assign(kept, read_value=False)
    tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
    with tf1.variable_scope("attention"):
        x = _normalize(x + _dropout(_attend(x, seen, positions, biases, config), config))
    with tf1.variable_scope("feed_forward"):
        inner = tf.nn.relu(_dense("expand", x, config.inner))
        return _normalize(x + _dropout(_dense("contract", inner, config.width), config))


def _attend(
    x: Any, seen: Any, positions: Any, biases: list[Any], config: TransformerXlConfig
) -> Any:
    size = (config.width, config.heads, config.head_width)
    query = tf.einsum("bid,dnh->bnih", x, weight("query", size))
    key = tf.einsum("bjd,dnh->bnjh", seen, weight("key", size))
    value = tf.einsum("bjd,dnh->bnjh", seen, weight("value", size))
    place = tf.einsum("jd,dnh->njh", positions, weight("place", size))
    content_bias, place_bias = (tf.expand_dims(bias, 1) for bias in biases)
    content = tf.einsum("bnih,bnjh->bnij", query + content_bias, key)
    distance = tf.einsum("bnih,njh->bnij", query + place_bias, place)
    scores = (content + _shift(distance)) * config.head_width**-0.5
    mask = tf.linalg.band_part(tf.ones((config.steps, config.memory + config.steps)), -1,
                               config.memory)  # fmt: skip
    weights = tf.nn.softmax(scores * mask - 1e30 * (1.0 - mask))
    mixed = tf.einsum("bnij,bnjh->binh", _dropout(weights, config), value)
    output = weight("output", (config.heads, config.head_width, config.width))
    return tf.einsum("binh,nhd->bid", mixed, output)


def _shift(x: Any) -> Any:
    """Move row i left by as much as its query precedes the last one: pad, reshape, cut."""
    batch, heads, rows, columns = x.shape.as_list()
    x = tf.reshape(tf.pad(x, ((0, 0), (0, 0), (0, 0), (1, 0))), (batch, heads, columns + 1, rows))
    return tf.reshape(x[:, :, 1:], (batch, heads, rows, columns))


def _dense(name: str, x: Any, units: int) -> Any:
    with tf1.variable_scope(name):
        product = tf.einsum("bid,de->bie", x, weight("kernel", (x.shape[-1], units)))
        return tf.nn.bias_add(product, weight("bias", (units,)))


def _normalize(x: Any) -> Any:
    with tf1.variable_scope("norm"):
        mean, variance = tf.nn.moments(x, axes=2, keepdims=True)
        scaled = (x - mean) * tf.math.rsqrt(variance + 1e-6)
        return scaled * weight("scale", (x.shape[-1],)) + weight("offset", (x.shape[-1],))


def _dropout(x: Any, config: TransformerXlConfig) -> Any:
    return tf.nn.dropout(x, rate=config.dropout) if config.dropout else x
