"""Recurrent cells in elementary ops, and layers of them unrolled over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.families.layers import concatenate, shift, split
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType

State = tuple[TapeValue, TapeValue]
"""Output and cell state; the same twice where a cell has only one."""

#: Ops that a step of a cell takes in a training step and in inference.
LSTM_OPS, LSTM_INFERENCE_OPS = 47, 16


@dataclass(frozen=True)
class Cell:
    """One layer's weights, shared by all of its steps."""

    kernel: TapeValue
    bias: TapeValue
    hidden: int
    gated: bool
    """An LSTM; otherwise a plain recurrent cell."""


def cell(tape: Tape, inputs: int, hidden: int, gated: bool = True) -> Cell:
    """Create a layer's variables."""
    units = 4 * hidden if gated else hidden
    kernel = tape.weight("kernel", (inputs + hidden, units))
    return Cell(kernel, tape.weight("bias", (units,)), hidden, gated)


def zero_state(tape: Tape, batch: int, hidden: int) -> State:
    """The state before the first step."""
    output = tape.constant((batch, hidden), DType.FLOAT32)
    return output, tape.constant((batch, hidden), DType.FLOAT32)


def step(tape: Tape, weights: Cell, inputs: Sequence[TapeValue], state: State) -> State:
    """One time step over `[batch, features]`."""
    output, memory = state
    joined = concatenate(tape, [*inputs, output])
    product = tape.op("MatMul", (joined, weights.kernel), (joined.shape[0], *weights.bias.shape))
    gates = tape.op("BiasAdd", (product, weights.bias), product.shape)
    if not weights.gated:
        output = tape.op("Tanh", (gates,))
        return output, output
    enter, candidate, keep, leave = split(tape, gates, 4)
    kept = tape.op("Mul", (tape.op("Sigmoid", (shift(tape, keep),)), memory))
    entered = tape.op("Mul", (tape.op("Sigmoid", (enter,)), tape.op("Tanh", (candidate,))))
    memory = tape.op("AddV2", (kept, entered))
    return tape.op("Mul", (tape.op("Sigmoid", (leave,)), tape.op("Tanh", (memory,)))), memory


def unroll(
    tape: Tape, name: str, inputs: Sequence[TapeValue], hidden: int, reverse: bool = False,
    gated: bool = True,
) -> list[TapeValue]:  # fmt: skip
    """A layer over a list of steps; its outputs in the order of the inputs."""
    batch, features = inputs[0].shape
    with tape.scope(name):
        weights = cell(tape, features, hidden, gated)
        state = zero_state(tape, batch, hidden)
        outputs = []
        for value in reversed(inputs) if reverse else inputs:
            state = step(tape, weights, [value], state)
            outputs.append(state[0])
    return outputs[::-1] if reverse else outputs
