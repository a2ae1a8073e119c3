"""Tune what the decoder's columns count before anything is learned, on the training stream.

    python benchmarks/quality/tune_decoder.py [--graphs 64] [--generations 8]

Weights are drawn, crossed and varied; of all that were tried, the sixteen are kept of which the
best plan is fastest in the mean, and written to `placement/decoding/style_weights.py`. No draw is
made: each set of weights gives one plan for each graph.
"""

import argparse
import textwrap
from pathlib import Path
from time import process_time

import numpy as np

from agent.decoding.stream import StreamConfig, draw_draft
from placement.decoding.columns import DECISION_COLUMNS
from placement.decoding.drawing import Decoder, make_decoder, plain_scorer
from placement.decoding.styles import Noise, draw_styles
from placement.priorities import upward_ranks
from simulator.plan import Plan

STYLES = 16
#: Pairs of the stream from here on; training begins at the first.
FIRST_PAIR = 1_000_000
#: A plan this many times as slow as the best of the first generation counts no worse than this.
SLOWEST = 4.0
AT = {name: index for index, name in enumerate(DECISION_COLUMNS)}
#: What is drawn from for each column; zero for those that are not named.
DRAWN = {
    "sending": (0, -5, -10, -20), "pushing": (0, -5, -10, -20), "is_before": (0, 0.5, 1, 2),
    "is_after": (0, 0.5, 1, 2), "neighbours_here": (0, 1, 3), "input_bytes": (0, 1, 3),
    "device_free": (0, -2, -5), "work": (0, -1, -3, -6), "room": (0, 1, 3),
    "idle": (0, 0, -2, -5), "pace": (0, 0, -1, -3), "need": (0, 0, -2, -5),
    "link_wait": (0, 0, -3, -8), "is_used": (0, 0, 1, 2), "is_earliest": (0, 0, 1, 2),
    "has_critical_input": (0, 0.5, 1, 2),
}  # fmt: skip


def draw_weights(rng: np.random.Generator) -> np.ndarray:
    """Weights at random."""
    weights = np.zeros(len(DECISION_COLUMNS))
    weights[AT["lateness"]] = -10 * np.exp(rng.normal() * 0.7)
    for name, values in DRAWN.items():
        weights[AT[name]] = rng.choice(values)
    return weights


def vary(weights: list[np.ndarray], parents: list[int], rng: np.random.Generator) -> np.ndarray:
    """Two parents crossed, each weight changed by about a third, a few drawn anew."""
    one, other = (weights[int(index)] for index in rng.choice(parents, 2))
    child = np.where(rng.random(len(one)) < 0.7, one, other)
    child = child * np.exp(rng.normal(size=len(one)) * 0.35)
    return np.where(rng.random(len(one)) < 0.08, draw_weights(rng), child)


def energies(decoder: Decoder, weights: list[np.ndarray]) -> np.ndarray:
    """The logarithm of the step time of each plan, with a price on memory over capacity."""
    problem = decoder.problem
    styles = draw_styles(
        problem,
        np.arange(len(weights), dtype=np.int32),
        Noise(),
        np.random.default_rng(0),
        len(weights),
    )
    drawn = decoder.draw(plain_scorer(decoder, np.stack(weights).astype(np.float32)), styles, 0)
    plans = [Plan.of(at, upward_ranks(problem, at)) for at in map(decoder.devices, drawn.chosen)]
    found = problem.simulator.evaluate_many(plans)
    over = np.maximum(found.peak_bytes - problem.cluster.memory_bytes, 0).sum(axis=1)
    price = np.where(found.feasible, 0.0, 0.3 + 5 * over / problem.cluster.memory_bytes.sum())
    return np.log(found.makespan_seconds) + price


def cover(logs: np.ndarray, count: int) -> list[int]:
    """Columns of which the least value of each row is least in the mean, the best column first."""
    least, chosen = np.full(len(logs), np.inf), []
    for _ in range(count):
        means = np.minimum(least[:, None], logs).mean(axis=0)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        least = np.minimum(least, logs[:, chosen[-1]])
    return chosen


def written(weights: list[np.ndarray]) -> str:
    """The module that holds the weights."""
    lines = [
        '"""What the decoder\'s columns count before anything is learned: weights that complement',
        "each other.",
        "",
        "Tuned by `benchmarks/quality/tune_decoder.py` on graphs of the training stream.",
        '"""',
        "",
        "#: A row for each style, in the order of `DECISION_COLUMNS`; the first ones bring most.",
        "STYLE_WEIGHTS = (",
    ]
    for row in weights:
        values = ", ".join(f"{value:.2f}" for value in row + 0.0)
        inside = textwrap.indent(textwrap.fill(f"{values},", 92), " " * 8)
        lines += ["    (", inside, "    ),"]
    return "\n".join([*lines, ")  # fmt: skip", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=64)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--children", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    stream, begun = StreamConfig(most_ops=1500), process_time()
    decoders: list[Decoder] = []
    number = FIRST_PAIR
    while len(decoders) < given.graphs:
        problem = draw_draft(stream, given.seed, number).problem()
        number += 1
        if problem.cluster.device_count > 1:
            decoders.append(make_decoder(problem))
    print(f"{given.graphs} graphs, {process_time() - begun:.0f} CPU s", flush=True)
    weights = [draw_weights(rng) for _ in range(2 * given.children)]
    logs = np.stack([energies(decoder, weights) for decoder in decoders])
    mark = logs.min(axis=1, keepdims=True)
    for generation in range(given.generations):
        kept = cover(np.minimum(logs - mark, np.log(SLOWEST)), STYLES)
        single = np.argsort(np.minimum(logs - mark, np.log(SLOWEST)).mean(axis=0))
        best = np.minimum(logs - mark, np.log(SLOWEST))
        print(
            f"{generation}: {len(weights)} tried, over the best of the first generation: "
            f"best alone {np.exp(best[:, single[0]].mean()):.3f}, "
            f"best of {STYLES} {np.exp(best[:, kept].min(axis=1).mean()):.3f}; "
            f"{process_time() - begun:.0f} CPU s",
            flush=True,
        )
        target = Path(__file__).parents[2] / "placement/decoding/style_weights.py"
        target.write_text(written([weights[index] for index in kept]), encoding="utf-8")
        if generation + 1 == given.generations:
            break
        parents = [*kept, *single[:STYLES].tolist()]
        children = [vary(weights, parents, rng) for _ in range(given.children)]
        logs = np.concatenate(
            [logs, np.stack([energies(decoder, children) for decoder in decoders])], axis=1
        )
        weights += children


if __name__ == "__main__":
    main()
