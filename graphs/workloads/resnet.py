"""ResNet with bottleneck blocks (50, 101, 152 layers)."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.image_layers import (
    classification_loss,
    conv_bn,
    conv_bn_relu,
    images_and_labels,
    max_pool,
)
from graphs.workloads.training import Workload, momentum, tf1, training_workload

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass(frozen=True)
class ResnetConfig:
    """Sizes of a ResNet."""

    depth: int = 50
    """50, 101 or 152."""
    batch: int = 32
    image_size: int = 224
    classes: int = 1000


def resnet(config: ResnetConfig = ResnetConfig()) -> Workload:
    """The training step of a ResNet."""

    def loss() -> Any:
        images, labels = images_and_labels(config.batch, config.image_size)
        with tf1.variable_scope("stem"):
            x = max_pool(conv_bn_relu("conv", images, 64, 7, 2), 3, 2)
        for stage, blocks in enumerate(_BLOCKS[config.depth]):
            for block in range(blocks):
                with tf1.variable_scope(f"stage_{stage}/block_{block}"):
                    x = _bottleneck(x, 64 << stage, 2 if stage and not block else 1)
        return classification_loss(x, labels, config.classes)

    return training_workload(f"resnet-{config.depth}", loss, momentum)


def _bottleneck(x: Any, filters: int, stride: int) -> Any:
    shortcut = x
    if x.shape[-1] != 4 * filters:
        shortcut = conv_bn("shortcut", x, 4 * filters, 1, stride)
    y = conv_bn_relu("reduce", x, filters, 1)
    y = conv_bn_relu("conv", y, filters, 3, stride)
    return tf.nn.relu(conv_bn("expand", y, 4 * filters, 1) + shortcut)
