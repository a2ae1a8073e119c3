"""Where episodes come from: pairs of a graph and a cluster, built when drawn and kept a while."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from envs.errors import EpisodeError
from envs.evaluator import MakeEvaluator, simulated
from envs.features.static_features import StaticFeatures, static_features
from envs.instance import Instance
from graphs.catalogue import resolve
from graphs.graph import Graph
from placement.placer import Budget, silent
from placement.placers.registry import get_placer
from placement.problem import Problem
from placement.suites import Pair, get_suite, suite_from_folder
from placement.throughput import Throughput
from simulator.cluster_file import load_cluster
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan

#: CPU seconds of a start plan's placer, if it is one that takes as long as it may.
_START_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """An instance with what all its episodes share."""

    instance: Instance
    _plans: dict[str, Plan] = field(default_factory=dict)

    @cached_property
    def static(self) -> StaticFeatures:
        return static_features(self.instance)

    def plan_by(self, placer: str) -> Plan:
        """The plan that a placer makes.

        Raises:
            GraphwrightError: no placer of that name.
        """
        if placer == "portfolio":
            return self.instance.portfolio.plan
        if placer not in self._plans:
            budget = Budget(_START_SECONDS)
            placed = get_placer(placer)(self.instance.problem, budget, self.instance.seed, silent)
            self._plans[placer] = placed.best.plan
        return self._plans[placer]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Draws instances, all equally often; keeps the ones used last.

    Raises:
        EpisodeError: nothing to draw from.
    """

    sources: tuple[Pair | Problem, ...]
    make_evaluator: MakeEvaluator = simulated
    kept_ops: int = 2_000_000
    """Instances are kept as long as their graphs have no more ops together."""
    seed: int = 0
    """Seed of heuristics that draw."""
    overlap: Throughput | None = None
    """Steps that overlap, where plans are scored by their period (`envs.overlapping`)."""
    optimum_seconds: float | None = None
    """Of the only problem, where it is known (`envs.known_optima`)."""
    _kept: "OrderedDict[int, Prepared]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise EpisodeError("no graphs to draw episodes from; give a suite with pairs in it")
        if self.overlap is not None and self.make_evaluator is not simulated:
            raise EpisodeError(
                "objective='throughput' with make_evaluator: overlapping steps are simulated; "
                "leave make_evaluator out"
            )

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rng: np.random.Generator) -> Instance:
        """A random instance.

        Raises:
            GraphwrightError: a model or a cluster that cannot be read.
        """
        return self.draw_prepared(rng).instance

    def draw_prepared(self, rng: np.random.Generator) -> Prepared:
        """A random instance with its features."""
        return self.at(int(rng.integers(len(self.sources))))

    def at(self, index: int) -> Prepared:
        """The instance at a position of the list.

        Raises:
            EpisodeError: no such position.
        """
        if not 0 <= index < len(self.sources):
            raise EpisodeError(f"no pair {index}; there are 0 to {len(self.sources) - 1}")
        if index not in self._kept:
            self._kept[index] = Prepared(self._build(self.sources[index]))
        self._kept.move_to_end(index)
        total = sum(one.instance.problem.graph.op_count for one in self._kept.values())
        while total > self.kept_ops and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            total -= dropped.instance.problem.graph.op_count
        return self._kept[index]

    @cached_property
    def only(self) -> Problem | None:
        """The problem, if there is just one; spaces are of fixed size then."""
        if len(self.sources) > 1:
            return None
        return self.at(0).instance.problem

    @cached_property
    def max_devices(self) -> int:
        """Devices of the largest cluster; no graph is built for it."""
        return max(
            source.cluster.device_count if isinstance(source, Problem) else source.device_count
            for source in dict.fromkeys(self.sources)
        )

    def _build(self, source: Pair | Problem) -> Instance:
        if isinstance(source, Problem):
            name, problem = f"{source.graph.name} on {source.cluster.name}", source
        else:
            name, problem = f"{source.graph_ref} on {source.cluster_ref}", source.problem()
        return Instance(
            name,
            problem,
            self.make_evaluator,
            self.seed,
            overlap=self.overlap,
            optimum_seconds=self.optimum_seconds,
        )


def episodes_from(
    suite: str | None = None,
    folder: str | Path | None = None,
    pairs: Sequence[Pair] | None = None,
    model: str | Path | None = None,
    graph: Graph | None = None,
    problem: Problem | None = None,
    cluster: str | Path | Cluster | None = None,
    clusters: Sequence[str] = (),
    make_evaluator: MakeEvaluator = simulated,
    seed: int = 0,
    overlap: Throughput | None = None,
) -> Episodes:
    """Episodes from one of several kinds of sources.

    Args:
        suite: a suite's name.
        folder: of models, each of which meets each of `clusters`.
        pairs: references to graphs and clusters.
        model: a model file, a bundled graph's name or `family:seed:ops`, with `cluster`.
        graph: a graph, with `cluster`.
        problem: a graph on a cluster with constraints and costs.
        cluster: a preset's name, a cluster file or a cluster.
        clusters: presets or cluster files for `folder`.
        make_evaluator: who scores plans.
        seed: of heuristics that draw.
        overlap: steps that overlap, where plans are scored by their period.

    Raises:
        EpisodeError: not exactly one source, or a cluster where none belongs.
        GraphwrightError: what the source names cannot be found or read.
    """
    given = {
        "suite": suite, "folder": folder, "pairs": pairs, "model": model, "graph": graph,
        "problem": problem,
    }  # fmt: skip
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise EpisodeError(
            f"episodes from {' and '.join(named) or 'nothing'}: give one of {', '.join(given)}"
        )
    if (cluster is not None) != (named[0] in ("model", "graph")):
        raise EpisodeError(
            f"{named[0]} {'with' if cluster is not None else 'without'} a cluster: `cluster` "
            "belongs to `model` or `graph`, such as cluster='4xv100-pcie'"
        )
    if clusters and folder is None:
        raise EpisodeError(f"{named[0]} with clusters: `clusters` belongs to `folder`")
    sources: Sequence[Pair | Problem]
    if suite is not None:
        sources = get_suite(suite).pairs
    elif folder is not None:
        sources = suite_from_folder(folder, clusters).pairs
    elif pairs is not None:
        sources = pairs
    elif problem is not None:
        sources = [problem]
    else:
        assert cluster is not None
        loaded = cluster if isinstance(cluster, Cluster) else load_cluster(cluster)
        sources = [Problem(graph if graph is not None else resolve(model or ""), loaded)]
    return Episodes(tuple(sources), make_evaluator, seed=seed, overlap=overlap)
