"""Random layered graphs of matrix products: no architecture, many shapes of parallelism."""

from random import Random

from graphs.families.layers import activation, add_up, dense, token_loss
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType


def layered(tape: Tape, rng: Random) -> TapeValue:
    """Layers of 1-16 nodes; a node reads a few earlier ones, mostly from the layer below."""
    rows = rng.choice((64, 128, 256, 512, 1024, 4096))
    unit = rng.choice((128, 256, 512, 1024))
    widest = rng.choice((1, 2, 4, 8, 16))
    reach = rng.choice((1, 1, 2, 4))
    uneven = rng.random() < 0.5
    layers = [[tape.placeholder((rows, unit))]]
    for index in tape.blocks(0.97):
        count = rng.randint(max(1, widest // 2), widest)
        chosen = [
            [
                rng.choice(layers[-min(rng.randint(1, reach), len(layers))])
                for _ in range(rng.choice((1, 1, 1, 2, 3)))
            ]
            for _ in range(count)
        ]
        for value in layers[-1]:  # what nobody reads would not be trained
            if not any(value in sources for sources in chosen):
                rng.choice(chosen).append(value)
        nodes = []
        for node, sources in enumerate(chosen):
            with tape.scope(f"layer_{index}/node_{node}"):
                columns = unit * (rng.choice((1, 1, 2)) if uneven else 1)
                nodes.append(_node(tape, sources, columns, rng))
        layers.append(nodes)
    with tape.scope("head"):
        labels = tape.placeholder((rows,), DType.INT32)
        ends = [dense(tape, f"end_{i}", x, 1000, False) for i, x in enumerate(layers[-1])]
        return token_loss(tape, add_up(tape, ends), labels)


def _node(tape: Tape, sources: list[TapeValue], columns: int, rng: Random) -> TapeValue:
    products = [dense(tape, f"input_{i}", x, columns, bias=not i) for i, x in enumerate(sources)]
    y = products[0]
    for other in products[1:]:
        y = tape.op(rng.choice(("AddV2", "Mul")), (y, other))
    return activation(tape, y, rng.choice(("relu", "tanh", "sigmoid", "gelu")))
