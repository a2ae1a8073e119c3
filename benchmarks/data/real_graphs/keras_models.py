"""Keras applications, and recurrent networks of Keras layers, on TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.data.real_graphs.model import RealModel

#: Class in Keras, family, side of the image, batches of inference and of training.
_ROWS = (
    ("MobileNetV2", "mobilenet", 224, 32, 96),
    ("MobileNetV3Large", "mobilenet", 224, 0, 128),
    ("EfficientNetB0", "efficientnet", 224, 32, 64),
    ("EfficientNetV2B0", "efficientnet", 224, 0, 64),
    ("DenseNet121", "densenet", 224, 16, 32),
    ("DenseNet169", "densenet", 224, 0, 24),
    ("ResNet50V2", "resnet", 224, 0, 64),
    ("ResNet101", "resnet", 224, 16, 32),
    ("InceptionV3", "inception", 299, 16, 32),
    ("InceptionResNetV2", "inception", 299, 8, 16),
    ("Xception", "xception", 299, 16, 32),
    ("NASNetMobile", "nasnet", 224, 16, 0),
    ("ConvNeXtTiny", "convnext", 224, 0, 32),
    ("VGG19", "vgg", 224, 0, 32),
)


def keras_models() -> tuple[RealModel, ...]:
    """All models that are taken from Keras."""
    return tuple(
        RealModel(
            f"keras-{name.lower()}", family, "keras", _build(name, side), _image(side),
            batch=batch, training_batch=training, optimizer="momentum",
        )
        for name, family, side, batch, training in _ROWS
    )  # fmt: skip


def _build(name: str, side: int) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))

    return build


def _image(side: int) -> Callable[[int], Mapping[str, Any]]:
    def examples(batch: int) -> Mapping[str, Any]:
        import tensorflow as tf

        return {"images": tf.TensorSpec((batch, side, side, 3), tf.float32)}

    return examples
