"""NASNet-A (large): two searched cells, stacked, with its auxiliary classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.image_layers import (
    avg_pool,
    batch_norm,
    classification_loss,
    conv_bn,
    convolution,
    images_and_labels,
    max_pool,
    separable_convolution,
)
from graphs.workloads.training import Workload, momentum, tf1, training_workload

Node = tuple[str, int, str, int]
"""One node of a cell: (op, state, op, state), its two results added."""

_NORMAL: Sequence[Node] = (
    ("sep5", 0, "sep3", 1),
    ("sep5", 1, "sep3", 1),
    ("avg3", 0, "skip", 1),
    ("avg3", 1, "avg3", 1),
    ("sep3", 0, "skip", 0),
)
_NORMAL_RESULT = (1, 2, 3, 4, 5, 6)
_REDUCTION: Sequence[Node] = (
    ("sep5", 0, "sep7", 1),
    ("max3", 0, "sep7", 1),
    ("avg3", 0, "sep5", 1),
    ("skip", 3, "avg3", 2),
    ("sep3", 2, "max3", 0),
)
_REDUCTION_RESULT = (3, 4, 5, 6)


@dataclass(frozen=True)
class NasnetConfig:
    """Sizes of a NASNet-A; the defaults are the large model's (6 cells, 4032 channels)."""

    cells: int = 6
    """Normal cells in each of the three stacks."""
    filters: int = 168
    stem_filters: int = 96
    batch: int = 8
    image_size: int = 331
    classes: int = 1000


def nasnet(config: NasnetConfig = NasnetConfig()) -> Workload:
    """The training step of a NASNet-A."""

    def loss() -> Any:
        images, labels = images_and_labels(config.batch, config.image_size)
        with tf1.variable_scope("stem"):
            x = batch_norm(convolution(images, config.stem_filters, 3, 2, "VALID"))
        before: Any = None
        for index, divisor in enumerate((4, 2)):
            cell = _reduction(f"stem_{index}", x, before, config.filters // divisor)
            x, before = cell, x
        filters = config.filters
        auxiliary: Any = None
        for stack in range(3):
            if stack:
                filters *= 2
                # The layer before a reduction is also the one before the cell that follows it.
                cell = _reduction(f"reduction_{stack}", x, before, filters)
                x, before = cell, x
            for index in range(config.cells):
                cell = _cell(f"stack_{stack}/cell_{index}", x, before, filters)
                x, before = cell, x
            if stack == 1:
                auxiliary = _auxiliary(x, labels, config.classes)
        return classification_loss(tf.nn.relu(x), labels, config.classes) + 0.4 * auxiliary

    return training_workload("nasnet-large", loss, momentum)


def _cell(name: str, x: Any, before: Any, filters: int) -> Any:
    with tf1.variable_scope(name):
        states = _combine(_prepare(x, before, filters), _NORMAL, filters, 1)
        return tf.concat([states[index] for index in _NORMAL_RESULT], axis=3)


def _reduction(name: str, x: Any, before: Any, filters: int) -> Any:
    with tf1.variable_scope(name):
        states = _combine(_prepare(x, before, filters), _REDUCTION, filters, 2)
        return tf.concat([states[index] for index in _REDUCTION_RESULT], axis=3)


def _prepare(x: Any, before: Any, filters: int) -> list[Any]:
    """The cell's two inputs with the cell's channels and size."""
    with tf1.variable_scope("begin"):
        current = conv_bn("squeeze", tf.nn.relu(x), filters, 1)
    if before is None:  # the first cell has only one input, and takes it unsqueezed as well
        return [current, x]
    with tf1.variable_scope("previous"):
        if before.shape[1] != x.shape[1]:
            return [current, _halve(tf.nn.relu(before), filters)]
        if before.shape[-1] != filters:
            return [current, conv_bn("squeeze", tf.nn.relu(before), filters, 1)]
    return [current, before]


def _halve(x: Any, filters: int) -> Any:
    """Halve the image by two strided paths, one a pixel off, joined in channels."""
    with tf1.variable_scope("path_0"):
        left = convolution(avg_pool(x, 1, 2, "VALID"), filters // 2, 1)
    with tf1.variable_scope("path_1"):
        moved = tf.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        right = convolution(avg_pool(moved, 1, 2, "VALID"), filters - filters // 2, 1)
    return batch_norm(tf.concat([left, right], axis=3))


def _combine(states: list[Any], nodes: Sequence[Node], filters: int, stride: int) -> list[Any]:
    for index, (left_op, left, right_op, right) in enumerate(nodes):
        with tf1.variable_scope(f"node_{index}"):
            results = []
            for side, op, state in (("left", left_op, left), ("right", right_op, right)):
                with tf1.variable_scope(side):
                    step = stride if state < 2 else 1
                    results.append(_operation(op, states[state], filters, step))
            states.append(results[0] + results[1])
    return states


def _operation(op: str, x: Any, filters: int, stride: int) -> Any:
    if op == "skip":
        return x
    if op == "avg3":
        return avg_pool(x, 3, stride)
    if op == "max3":
        return max_pool(x, 3, stride)
    kernel = int(op[-1])
    for index in range(2):
        with tf1.variable_scope(f"separable_{index}"):
            step = 1 if index else stride
            x = batch_norm(separable_convolution(tf.nn.relu(x), filters, kernel, step))
    return x


def _auxiliary(x: Any, labels: Any, classes: int) -> Any:
    with tf1.variable_scope("auxiliary"):
        x = avg_pool(tf.nn.relu(x), 5, 3, "VALID")
        x = tf.nn.relu(conv_bn("project", x, 128, 1))
        with tf1.variable_scope("full"):
            x = batch_norm(convolution(x, 768, (x.shape[1], x.shape[2]), padding="VALID"))
        return classification_loss(tf.nn.relu(x), labels, classes)
