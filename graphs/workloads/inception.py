"""Inception-v3 with its auxiliary classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from graphs.workloads.image_layers import (
    avg_pool,
    classification_loss,
    conv_bn_relu,
    images_and_labels,
    max_pool,
)
from graphs.workloads.training import Workload, momentum, tf1, training_workload


@dataclass(frozen=True)
class InceptionConfig:
    """Sizes of an Inception-v3."""

    batch: int = 32
    image_size: int = 299
    classes: int = 1000


def inception_v3(config: InceptionConfig = InceptionConfig()) -> Workload:
    """The training step of Inception-v3."""

    def loss() -> Any:
        images, labels = images_and_labels(config.batch, config.image_size)
        x = _stem(images)
        for name, pool_filters in (("mixed_0", 32), ("mixed_1", 64), ("mixed_2", 64)):
            x = _block(name, x, _block_35(pool_filters))
        x = _block("mixed_3", x, _reduction_35)
        for name, inner in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
            x = _block(name, x, _block_17(inner))
        with tf1.variable_scope("auxiliary"):
            y = avg_pool(x, 5, 3, "VALID")
            y = conv_bn_relu("conv_0", y, 128, 1)
            y = conv_bn_relu("conv_1", y, 768, (y.shape[1], y.shape[2]), padding="VALID")
            auxiliary = classification_loss(y, labels, config.classes)
        x = _block("mixed_8", x, _reduction_17)
        for name in ("mixed_9", "mixed_10"):
            x = _block(name, x, _block_8)
        return classification_loss(x, labels, config.classes) + 0.4 * auxiliary

    return training_workload("inception-v3", loss, momentum)


def _stem(x: Any) -> Any:
    with tf1.variable_scope("stem"):
        x = conv_bn_relu("conv_0", x, 32, 3, 2, "VALID")
        x = conv_bn_relu("conv_1", x, 32, 3, 1, "VALID")
        x = conv_bn_relu("conv_2", x, 64, 3)
        x = max_pool(x, 3, 2, "VALID")
        x = conv_bn_relu("conv_3", x, 80, 1, 1, "VALID")
        x = conv_bn_relu("conv_4", x, 192, 3, 1, "VALID")
        return max_pool(x, 3, 2, "VALID")


def _block(name: str, x: Any, branches: Callable[[Any], list[Any]]) -> Any:
    with tf1.variable_scope(name):
        return tf.concat(branches(x), axis=3)


def _tower(name: str, x: Any, *layers: tuple[Any, ...]) -> Any:
    """Convolutions in a row; each layer is (filters, kernel[, stride, padding])."""
    for index, layer in enumerate(layers):
        x = conv_bn_relu(f"{name}_{index}", x, *layer)
    return x


def _block_35(pool_filters: int) -> Callable[[Any], list[Any]]:
    return lambda x: [
        _tower("one", x, (64, 1)),
        _tower("five", x, (48, 1), (64, 5)),
        _tower("double", x, (64, 1), (96, 3), (96, 3)),
        _tower("pool", avg_pool(x, 3, 1), (pool_filters, 1)),
    ]


def _reduction_35(x: Any) -> list[Any]:
    return [
        _tower("three", x, (384, 3, 2, "VALID")),
        _tower("double", x, (64, 1), (96, 3), (96, 3, 2, "VALID")),
        max_pool(x, 3, 2, "VALID"),
    ]


def _block_17(inner: int) -> Callable[[Any], list[Any]]:
    row, column = (1, 7), (7, 1)
    return lambda x: [
        _tower("one", x, (192, 1)),
        _tower("seven", x, (inner, 1), (inner, row), (192, column)),
        _tower("double", x, (inner, 1), (inner, column), (inner, row), (inner, column), (192, row)),
        _tower("pool", avg_pool(x, 3, 1), (192, 1)),
    ]


def _reduction_17(x: Any) -> list[Any]:
    return [
        _tower("three", x, (192, 1), (320, 3, 2, "VALID")),
        _tower("seven", x, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "VALID")),
        max_pool(x, 3, 2, "VALID"),
    ]


def _block_8(x: Any) -> list[Any]:
    middle = _tower("three", x, (384, 1))
    double = _tower("double", x, (448, 1), (384, 3))
    return [
        _tower("one", x, (320, 1)),
        *_fork("three", middle),
        *_fork("double", double),
        _tower("pool", avg_pool(x, 3, 1), (192, 1)),
    ]


def _fork(name: str, x: Any) -> list[Any]:
    return [_tower(f"{name}_row", x, (384, (1, 3))), _tower(f"{name}_column", x, (384, (3, 1)))]
