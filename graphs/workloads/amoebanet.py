"""AmoebaNet-D: two evolved cells, stacked (the model that GPipe scaled)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.image_layers import (
    avg_pool,
    batch_norm,
    classification_loss,
    conv_bn_relu,
    convolution,
    images_and_labels,
    max_pool,
)
from graphs.workloads.training import Workload, momentum, tf1, training_workload

_NORMAL: Sequence[tuple[str, int]] = (
    ("conv1", 1), ("max3", 1), ("skip", 1), ("conv7", 0), ("conv1", 0), ("conv7", 0),
    ("max3", 2), ("skip", 2), ("avg3", 1), ("conv1", 5),
)  # fmt: skip
_NORMAL_RESULT = (0, 3, 4, 6)
_REDUCTION: Sequence[tuple[str, int]] = (
    ("max2", 0), ("max3", 0), ("skip", 2), ("conv3", 1), ("conv7", 2), ("max3", 2),
    ("skip", 3), ("max2", 1), ("avg3", 2), ("conv1", 3),
)  # fmt: skip
_REDUCTION_RESULT = (4, 5, 6)


@dataclass(frozen=True)
class AmoebanetConfig:
    """Sizes of an AmoebaNet-D; the defaults are (18, 208), 82 million parameters."""

    layers: int = 18
    """Normal cells in all, in three stacks."""
    filters: int = 208
    batch: int = 8
    image_size: int = 224
    classes: int = 1000


def amoebanet(config: AmoebanetConfig = AmoebanetConfig()) -> Workload:
    """The training step of an AmoebaNet-D."""

    def loss() -> Any:
        images, labels = images_and_labels(config.batch, config.image_size)
        channels = config.filters // 4
        with tf1.variable_scope("stem"):
            x = batch_norm(convolution(images, channels, 3, 2))
        before = x
        for index in range(2):
            channels *= 2
            x, before = _cell(f"stem_{index}", x, before, channels, reduction=True), x
        for stack in range(3):
            if stack:
                channels *= 2
                x, before = _cell(f"reduction_{stack}", x, before, channels, reduction=True), x
            for index in range(config.layers // 3):
                x, before = _cell(f"stack_{stack}/cell_{index}", x, before, channels), x
        return classification_loss(x, labels, config.classes)

    return training_workload("amoebanet-d", loss, momentum)


def _cell(name: str, x: Any, before: Any, channels: int, reduction: bool = False) -> Any:
    nodes, result = (_REDUCTION, _REDUCTION_RESULT) if reduction else (_NORMAL, _NORMAL_RESULT)
    with tf1.variable_scope(name):
        states = [conv_bn_relu("begin", x, channels, 1), _previous(x, before, channels)]
        for index in range(0, len(nodes), 2):
            results = []
            for side, (op, state) in enumerate(nodes[index : index + 2]):
                with tf1.variable_scope(f"node_{index // 2}/side_{side}"):
                    stride = 2 if reduction and state < 2 else 1
                    results.append(_operation(op, states[state], channels, stride))
            states.append(results[0] + results[1])
        return tf.concat([states[index] for index in result], axis=3)


def _previous(x: Any, before: Any, channels: int) -> Any:
    """The output of the cell before the last, with this cell's channels and size."""
    if before.shape[1] != x.shape[1]:
        return conv_bn_relu("previous", max_pool(before, 2, 2), channels, 1)
    if before.shape[-1] != channels:
        return conv_bn_relu("previous", before, channels, 1)
    return before


def _operation(op: str, x: Any, channels: int, stride: int) -> Any:
    if op == "skip":
        return x if stride == 1 else conv_bn_relu("halve", x, channels, 1, stride)
    if op == "avg3":
        return avg_pool(x, 3, stride)
    if op.startswith("max"):
        return max_pool(x, int(op[-1]), stride)
    if op == "conv1":
        return conv_bn_relu("conv", x, channels, 1, stride)
    inner = channels // 4
    x = conv_bn_relu("reduce", x, inner, 1)
    if op == "conv3":
        x = conv_bn_relu("conv", x, inner, 3, stride)
    else:
        x = conv_bn_relu("row", x, inner, (1, 7), stride)
        x = conv_bn_relu("column", x, inner, (7, 1))
    return conv_bn_relu("expand", x, channels, 1)
