"""Convolutions, batch normalisation and pooling of the image models (NHWC)."""

from typing import Any

import tensorflow as tf

from graphs.workloads.training import tf1, token_loss, variable, weight

Kernel = int | tuple[int, int]


def images_and_labels(batch: int, size: int) -> tuple[Any, Any]:
    """Placeholders for a batch of square RGB images and their classes."""
    images = tf1.placeholder(tf.float32, (batch, size, size, 3), "images")
    return images, tf1.placeholder(tf.int32, (batch,), "labels")


def convolution(
    x: Any, filters: int, kernel: Kernel, stride: int = 1, padding: str = "SAME"
) -> Any:
    """A convolution without bias."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    filters_value = weight("filters", (height, width, x.shape[-1], filters))
    return tf.nn.conv2d(x, filters_value, strides=stride, padding=padding)


def separable_convolution(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
    """A depthwise convolution followed by a pointwise one, without biases."""
    channels = x.shape[-1]
    depthwise = weight("depthwise", (kernel, kernel, channels, 1))
    x = tf.nn.depthwise_conv2d(x, depthwise, strides=[1, stride, stride, 1], padding="SAME")
    return tf.nn.conv2d(x, weight("pointwise", (1, 1, channels, filters)), 1, "SAME")


def batch_norm(x: Any, epsilon: float = 1e-3, decay: float = 0.99) -> Any:
    """Batch normalisation with scale and offset; keeps its moving averages as training does."""
    with tf1.variable_scope("bn"):
        channels = (x.shape[-1],)
        scale, offset = weight("scale", channels), weight("offset", channels)
        y, mean, variance = tf1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon)
        for name, value in (("mean", mean), ("variance", variance)):
            moving = variable(f"moving_{name}", channels, trainable=False)
            step = (moving.read_value() - value) * (1.0 - decay)
            update = moving.assign_sub(step, read_value=False)
            tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
        return y


def conv_bn_relu(
    name: str, x: Any, filters: int, kernel: Kernel, stride: int = 1, padding: str = "SAME"
) -> Any:
    """Convolution, batch normalisation, ReLU: the unit of Inception and ResNet."""
    with tf1.variable_scope(name):
        return tf.nn.relu(batch_norm(convolution(x, filters, kernel, stride, padding)))


def conv_bn(name: str, x: Any, filters: int, kernel: Kernel, stride: int = 1) -> Any:
    """Convolution and batch normalisation."""
    with tf1.variable_scope(name):
        return batch_norm(convolution(x, filters, kernel, stride))


def max_pool(x: Any, size: int, stride: int, padding: str = "SAME") -> Any:
    """Maximum over square windows."""
    return tf.nn.max_pool2d(x, size, stride, padding)


def avg_pool(x: Any, size: int, stride: int, padding: str = "SAME") -> Any:
    """Mean over square windows."""
    return tf.nn.avg_pool2d(x, size, stride, padding)


def dense(name: str, x: Any, units: int) -> Any:
    """A fully connected layer with bias."""
    with tf1.variable_scope(name):
        product = tf.matmul(x, weight("kernel", (x.shape[-1], units)))
        return tf.nn.bias_add(product, weight("bias", (units,)))


def classification_loss(x: Any, labels: Any, classes: int, name: str = "logits") -> Any:
    """Global average pooling, a linear classifier, cross entropy."""
    return token_loss(dense(name, tf.reduce_mean(x, axis=(1, 2)), classes), labels)
