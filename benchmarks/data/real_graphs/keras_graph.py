"""Graphs of Keras models, as `tf.function` traces them: a forward pass, or a training step."""

from typing import Any

from benchmarks.data.real_graphs.model import TRAINING, RealModel
from graphs.graph import Graph


def keras_graph(model: RealModel, name: str) -> Graph:
    """One of the model's graphs; an image classifier is trained by SGD with momentum.

    Args:
        model: a model of Keras.
        name: the name of the graph, one of `model.graph_names`.

    Raises:
        ModelError: a function that cannot become a graph.
    """
    import keras
    import tensorflow as tf

    from graphs.importers.tensorflow_models.graph import import_tf_graph

    keras.backend.clear_session()
    network = model.build()
    (images,) = model.inputs(model.batch_of(name)).values()
    if not name.endswith(TRAINING):
        forward = tf.function(lambda batch: network(batch, training=False))
        return import_tf_graph(forward.get_concrete_function(images), name)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(network.trainable_variables)

    def step(batch: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(
                labels, network(batch, training=True)
            )
            loss = tf.reduce_mean(losses)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    labels = tf.TensorSpec((images.shape[0],), tf.int32)
    return import_tf_graph(tf.function(step).get_concrete_function(images, labels), name)
