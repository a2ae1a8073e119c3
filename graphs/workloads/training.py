"""What every workload shares: variables, the training step, and what the builders return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tensorflow as tf

tf1 = tf.compat.v1


@dataclass(frozen=True)
class Workload:
    """A training step: the graph that holds it and the ops that a step runs."""

    name: str
    graph: Any
    """A `tf.Graph`; it also holds the variables' initialisers, which a step does not run."""
    fetches: tuple[str, ...]
    parameters: int
    """Trainable parameters (numbers, not bytes)."""

    @property
    def node_count(self) -> int:
        """Nodes of the whole graph, initialisers included."""
        return len(self.graph.get_operations())

    def __str__(self) -> str:
        return f"{self.name}: {self.parameters:,} parameters, {self.node_count:,} nodes"


def training_workload(name: str, loss: Callable[[], Any], optimizer: Callable[[], Any]) -> Workload:
    """Build `loss` in a graph of its own, then its gradients and the optimizer's updates.

    Args:
        name: name of the workload.
        loss: adds the forward pass to the current graph and returns the scalar to minimise.
        optimizer: returns a `tf.compat.v1.train.Optimizer`.
    """
    graph = tf.Graph()
    with graph.as_default():
        value = loss()
        variables = tf1.trainable_variables()
        gradients = tf1.gradients(value, variables)
        updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
        pairs = list(zip(gradients, variables, strict=True))
        apply = optimizer().apply_gradients(pairs, name="train")
        train_op = tf.group(apply, *updates, name="train_op")
        parameters = sum(prod(variable.shape.as_list()) for variable in variables)
    return Workload(name, graph, (value.op.name, train_op.name), parameters)


def variable(name: str, shape: Sequence[int], trainable: bool = True) -> Any:
    """A resource variable; its initial value is only computed if somebody runs the initialiser."""
    return tf1.get_variable(
        name,
        list(shape),
        initializer=tf1.random_normal_initializer(stddev=0.05),
        use_resource=True,
        trainable=trainable,
    )


def weight(name: str, shape: Sequence[int]) -> Any:
    """The value of a trainable variable, read once however often it is used."""
    return variable(name, shape).read_value()


def momentum() -> Any:
    """The optimizer of the image models."""
    return tf1.train.MomentumOptimizer(0.1, 0.9)


def adam() -> Any:
    """The optimizer of the sequence models."""
    return tf1.train.AdamOptimizer(1e-3)


def token_loss(logits: Any, labels: Any) -> Any:
    """Mean cross entropy of integer labels."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
