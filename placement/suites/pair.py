"""What a suite is made of: references to graphs and clusters, built only when asked for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphs.catalogue import resolve
from graphs.families.reference import is_reference
from graphs.graph import Graph
from graphs.real_graphs import PREFIX, is_real_reference, real_graphs
from placement.placers.tight_memory import tighten_memory
from placement.problem import Problem
from placement.suites.pin import Pin
from simulator.cluster_file import load_cluster
from simulator.clusters.cluster import Cluster
from simulator.errors import ClusterError

#: Between a cluster and the factor of its memory rule.
RULE = "@tight:"
_LEAST_FACTOR, _LARGEST_FACTOR = 1.0, 10.0


class Headroom(StrEnum):
    """Why a placement can be better than the obvious one, or that it cannot."""

    SLOW_LINKS = "slow-links"
    TIGHT_MEMORY = "tight-memory"
    UNLIKE_DEVICES = "unlike-devices"
    FAST_LINKS = "fast-links"
    """Alike devices and fast links: something to win, but most heuristics do well."""
    NONE = "none"
    """Nothing can be won, and nothing may be lost."""


@dataclass(frozen=True)
class Pair:
    """A graph on a cluster."""

    graph_ref: str
    """A bundled graph's name, `real/NAME`, `family:seed:ops`, or a model file."""
    cluster_ref: str
    """A preset's name or a cluster file, with `@tight:1.3` behind it for 1.3 times the least
    memory per device that the portfolio's plans need."""
    headroom: Headroom
    pin: Pin | None = None
    """What graph and cluster have to be, where the suite is pinned."""

    def graph(self) -> Graph:
        """Build or read the graph, however little is known of it (`graphs.import_gaps`).

        Raises:
            ModelError: no such graph, a model that cannot become one, or not what was pinned.
        """
        graph = _graph(self.graph_ref)
        return graph if self.pin is None else self.pin.checked_graph(graph, self.graph_ref)

    @property
    def device_count(self) -> int:
        """Devices of the cluster; no graph is built for it.

        Raises:
            ClusterError: no such cluster, or a rule that cannot be read.
        """
        return _device_count(memory_rule(self.cluster_ref)[0])

    def cluster(self) -> Cluster:
        """The cluster; for a memory rule the portfolio runs once, unless the bytes are pinned.

        Raises:
            ClusterError: no such cluster, a rule that cannot be read, or not what was pinned.
        """
        base, factor = memory_rule(self.cluster_ref)
        if self.pin is not None:
            return self.pin.checked_cluster(load_cluster(base), self.cluster_ref, factor)
        if factor is None:
            return load_cluster(base)
        return _tight_cluster(self.graph_ref, base, factor)

    @property
    def asked_ops(self) -> int:
        """The ops that a generated graph was asked to have, or that the manifest gives a real one;
        0 where neither says. No graph is built for it."""
        if is_real_reference(self.graph_ref):
            known = real_graphs().get(self.graph_ref.removeprefix(PREFIX))
            return known.ops if known else 0
        last = self.graph_ref.rpartition(":")[2]
        return int(last) if last.isdigit() and self.graph_ref.count(":") == 2 else 0

    @property
    def family(self) -> str:
        """Of a generated graph its family, of a real one that of its architecture; any other graph
        is a family by itself, called by its name without folder and ending."""
        if is_reference(self.graph_ref):
            return self.graph_ref.partition(":")[0]
        if is_real_reference(self.graph_ref):
            known = real_graphs().get(self.graph_ref.removeprefix(PREFIX))
            return known.family if known else self.graph_ref.removeprefix(PREFIX)
        return Path(self.graph_ref).stem

    def problem(self) -> Problem:
        """The placement problem."""
        return Problem(self.graph(), self.cluster())

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values."""
        values: dict[str, Any] = {
            "graph": self.graph_ref,
            "cluster": self.cluster_ref,
            "headroom": self.headroom.value,
        }
        if self.pin is not None:
            values |= {
                "graph_digest": self.pin.graph_digest,
                "cluster_digest": self.pin.cluster_digest,
                "memory_bytes": list(self.pin.memory_bytes),
            }
        return values


@dataclass(frozen=True)
class Suite:
    """A named list of pairs."""

    name: str
    description: str
    pairs: tuple[Pair, ...]
    version: str = ""
    """Of a pinned suite, all of whose pairs have pins; empty of others."""

    @property
    def label(self) -> str:
        """The name, with the version of a pinned suite behind it: `paper@1`."""
        return f"{self.name}@{self.version}" if self.version else self.name

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of what is pinned, in order; empty where nothing is."""
        pins = [pair.pin for pair in self.pairs if pair.pin is not None]
        digests = "".join(pin.graph_digest + pin.cluster_digest for pin in pins)
        return hashlib.blake2b(digests.encode(), digest_size=8).hexdigest() if pins else ""


def memory_rule(cluster_ref: str) -> tuple[str, float | None]:
    """The cluster and the factor of its memory rule, None without one.

    Raises:
        ClusterError: a factor that is no number between 1 and 10.
    """
    base, separator, text = cluster_ref.partition(RULE)
    if not separator:
        return cluster_ref, None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not _LEAST_FACTOR <= factor <= _LARGEST_FACTOR:
        raise ClusterError(
            f"cluster {cluster_ref!r}: {RULE}{text}: write a factor from 1 to 10, such as "
            f"{base}{RULE}1.3"
        )
    return base, factor


@lru_cache(maxsize=256)
def _device_count(cluster_ref: str) -> int:
    return load_cluster(cluster_ref).device_count


@lru_cache(maxsize=16)
def _graph(graph_ref: str) -> Graph:
    return resolve(graph_ref, allow_unknown=True)


@lru_cache(maxsize=256)
def _tight_cluster(graph_ref: str, base: str, factor: float) -> Cluster:
    return tighten_memory(Problem(_graph(graph_ref), load_cluster(base)), factor)
