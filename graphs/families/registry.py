"""All families by name, and the one function that makes a graph of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from graphs.errors import ModelError
from graphs.families.cells import cells
from graphs.families.convnet import convnet
from graphs.families.gnmt import gnmt
from graphs.families.gradients import GRADIENTS
from graphs.families.inception import inception
from graphs.families.layered import layered
from graphs.families.mamba import mamba
from graphs.families.moe import moe
from graphs.families.perturbed import perturbed
from graphs.families.rnnlm import rnnlm
from graphs.families.tape import Tape
from graphs.families.training_step import OPTIMIZERS, add_training_step
from graphs.families.transformer import transformer
from graphs.families.unet import unet
from graphs.families.values import TapeValue
from graphs.families.wavenet import wavenet
from graphs.graph import Graph

SMALLEST_OPS, LARGEST_OPS = 100, 200_000
_DRAWN_OPS = (400, 8_000)
_GRADIENT_OPS = {op_type: rule.ops for op_type, rule in GRADIENTS.items()}


@dataclass(frozen=True)
class Family:
    """A family of models that are written on a tape."""

    forward: Callable[[Tape, Random], TapeValue]
    """Appends the forward pass, about as large as the tape's target, and returns its loss."""
    optimizers: tuple[str, ...] = ("adam", "adam", "rmsprop", "sgd")
    """Drawn from; what occurs twice is drawn twice as often."""
    training_share: float = 0.8
    """How many of the graphs are training steps; the others are inference."""


_IMAGES = ("momentum", "momentum", "momentum", "adam")

FAMILIES: dict[str, Family | Callable[[Random, int], Graph]] = {
    "rnnlm": Family(rnnlm),
    "gnmt": Family(gnmt),
    "convnet": Family(convnet, _IMAGES),
    "inception": Family(inception, _IMAGES),
    "transformer": Family(transformer),
    "wavenet": Family(wavenet),
    "cells": Family(cells, _IMAGES),
    "layered": Family(layered, ("sgd", "momentum", "adam")),
    "moe": Family(moe),
    "unet": Family(unet),
    "mamba": Family(mamba),
    "perturbed": perturbed,
}


def generate(family: str, seed: int, target_ops: int | None = None) -> Graph:
    """The graph of a family that belongs to a seed; the same on every platform.

    Args:
        family: a name of `FAMILIES`.
        seed: any whole number; another seed, another graph.
        target_ops: about how many ops; drawn between 400 and 8,000 where it is not given. A
            perturbed real graph is as large as the real graphs that come closest.

    Raises:
        ModelError: no such family, or a target outside 100 to 200,000.
    """
    chosen = FAMILIES.get(family)
    if chosen is None:
        raise ModelError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    if target_ops is not None and not SMALLEST_OPS <= target_ops <= LARGEST_OPS:
        raise ModelError(
            f"{family}:{seed}: target of {target_ops} ops; between {SMALLEST_OPS} and "
            f"{LARGEST_OPS:,}, please"
        )
    rng = Random(f"{family}:{seed}")
    drawn = round(_DRAWN_OPS[0] * (_DRAWN_OPS[1] / _DRAWN_OPS[0]) ** rng.random())
    size = target_ops or drawn
    name = f"{family}:{seed}" + (f":{target_ops}" if target_ops else "")
    if not isinstance(chosen, Family):
        return replace(chosen(rng, size), name=name)
    training = rng.random() < chosen.training_share
    optimizer = OPTIMIZERS[rng.choice(chosen.optimizers)]
    tape = Tape(
        name,
        size,
        training,
        frozen_weights=not training and rng.random() < 0.5,
        gradient_ops=_GRADIENT_OPS,
        update_ops=optimizer.ops if training else 0,
    )
    loss = chosen.forward(tape, rng)
    if training:
        add_training_step(tape, loss, optimizer)
    return tape.graph()
