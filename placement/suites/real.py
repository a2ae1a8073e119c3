"""Suites of graphs of real models, apart by architecture family (`graphs/real_graphs.py`).

The split is the manifest's. Every graph of the training split is in `real-train`, on two clusters.
Of the others a family gives a few graphs, training steps first, on clusters on which the best of
all heuristics is ahead of the fastest device alone.
"""

from collections.abc import Sequence
from itertools import zip_longest
from random import Random

from graphs.real_graphs import RealGraph, real_graphs
from placement.suites.pair import Headroom, Pair, Suite

CLUSTERS: Sequence[tuple[str, Headroom]] = (
    ("4xv100-pcie", Headroom.SLOW_LINKS),
    ("2xv100-pcie@tight:1.3", Headroom.TIGHT_MEMORY),
    ("2xa100+2xv100-pcie", Headroom.UNLIKE_DEVICES),
    ("8xp100-pcie", Headroom.SLOW_LINKS),
    ("4xv100-nvlink@tight:1.5", Headroom.TIGHT_MEMORY),
    ("1xa100+1xt4-pcie@tight:1.5", Headroom.UNLIKE_DEVICES),
)
_CLUSTERS_EACH = 2
_FEWEST_OPS = 400
_VALIDATION_PAIRS, _TEST_PAIRS = 24, 40


def real_suites() -> tuple[Suite, ...]:
    """The three suites; reads the manifest, and no graph."""
    return (
        Suite(
            "real-train",
            "graphs of real models (torchvision, timm, transformers, diffusers) to train on",
            _all_of("train"),
        ),
        Suite(
            "real-validation",
            "graphs of other architecture families, for choices made during development",
            _some_of("validation", _VALIDATION_PAIRS),
        ),
        Suite(
            "real-test",
            "graphs of architecture families that neither of the two has, nor kin of them",
            _some_of("test", _TEST_PAIRS),
        ),
    )


def _all_of(split: str) -> tuple[Pair, ...]:
    pairs = []
    for graph in _graphs(split):
        start = Random(f"real:{graph.name}").randrange(len(CLUSTERS))
        for index in range(_CLUSTERS_EACH):
            # Two further on, so that the two are never of one sort.
            place = (start + index * 2) % len(CLUSTERS)
            pairs.append(Pair(graph.reference, *CLUSTERS[place]))
    return tuple(pairs)


def _some_of(split: str, count: int) -> tuple[Pair, ...]:
    """One graph of every family, then second ones, until there are enough pairs; where graphs run
    out, the first ones again, each on another cluster."""
    families: dict[str, list[RealGraph]] = {}
    for graph in _graphs(split):
        if graph.ops >= _FEWEST_OPS:
            families.setdefault(graph.family, []).append(graph)
    for graphs in families.values():
        graphs.sort(key=lambda graph: (not graph.training, -graph.ops, graph.name))
    rounds = zip_longest(*(families[family] for family in sorted(families)))
    chosen = [graph for graphs in rounds for graph in graphs if graph is not None]
    return tuple(
        Pair(
            chosen[index % len(chosen)].reference,
            *CLUSTERS[(index + index // len(chosen)) % len(CLUSTERS)],
        )
        for index in range(count)
    )


def _graphs(split: str) -> list[RealGraph]:
    return [graph for graph in real_graphs().values() if graph.split == split]
