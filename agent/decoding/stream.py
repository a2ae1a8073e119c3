"""An endless stream of graphs on clusters of every kind: generated ones, and real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphs.catalogue import resolve
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from placement.decoding.drawing import make_decoder
from placement.decoding.least_memory import least_peak_bytes
from placement.problem import Problem
from placement.suites import get_suite
from placement.suites.catalogue import TRAINED_FAMILIES
from simulator.cluster_file import load_cluster

#: Seeds of graphs that training may see; suites for validation and tests have higher ones.
_SEEDS = 10_000
_KINDS = ("p100", "v100", "a100", "h100", "t4")
_WITHOUT_NVLINK = ("cpu", "t4")
_COUNTS, _COUNT_CHANCES = (2, 3, 4, 6, 8, 16), (0.25, 0.1, 0.3, 0.1, 0.2, 0.05)
#: Times the least memory that any of the untaught decoder's plans needs on its fullest device.
_TIGHT = (1.1, 1.2, 1.3, 1.5)
_TIGHT_SHARE = 0.3


@dataclass(frozen=True)
class StreamConfig:
    """Which graphs are drawn.

    Raises:
        GraphwrightError: no family, sizes that leave nothing, or a share that is none.
    """

    families: tuple[str, ...] = TRAINED_FAMILIES
    least_ops: int = 250
    most_ops: int = 2500
    """Sizes of generated graphs are drawn evenly on a logarithmic scale; larger ones of the suite
    are left out."""
    suite: str = "real-train"
    """A suite whose graphs are drawn too; none where empty."""
    suite_share: float = 0.35
    """How often a graph comes from that suite."""

    def __post_init__(self) -> None:
        if not self.families:
            raise GraphwrightError("families is empty; name at least one family of graphs")
        if not 0 < self.least_ops <= self.most_ops:
            raise GraphwrightError(
                f"sizes from {self.least_ops} to {self.most_ops} ops; the first must be above 0 "
                "and no larger than the second"
            )
        if not 0 <= self.suite_share <= 1:
            raise GraphwrightError(f"suite_share is {self.suite_share}; give a share from 0 to 1")


@dataclass(frozen=True)
class Draft:
    """A pair of the stream, before anything is built."""

    graph_ref: str
    cluster_ref: str
    tight: float | None
    """Memory of every device, as times the least that is known to do; None leaves it."""

    @property
    def name(self) -> str:
        """For logs and tables."""
        rule = "" if self.tight is None else f"@tight:{self.tight}"
        return f"{self.graph_ref} on {self.cluster_ref}{rule}"

    def problem(self) -> Problem:
        """Build it."""
        problem = Problem(
            resolve(self.graph_ref, allow_unknown=True), load_cluster(self.cluster_ref)
        )
        if self.tight is None:
            return problem
        memory = int(self.tight * least_peak_bytes(make_decoder(problem)))
        return Problem(problem.graph, problem.given_cluster.with_memory(memory))


def draw_draft(config: StreamConfig, seed: int, number: int) -> Draft:
    """Pair `number` of the stream with this seed; the same whenever it is asked for."""
    rng = np.random.default_rng([seed, number, 17])
    if config.suite and rng.random() < config.suite_share:
        graphs = suite_graphs(config.suite, config.most_ops)
        graph = graphs[int(rng.integers(len(graphs)))]
    else:
        family = str(rng.choice(config.families))
        ops = round(config.least_ops * (config.most_ops / config.least_ops) ** rng.random())
        graph = f"{family}:{int(rng.integers(_SEEDS))}:{ops}"
    cluster, may_be_tight = _draw_cluster(rng)
    tight = float(rng.choice(_TIGHT)) if rng.random() < _TIGHT_SHARE and may_be_tight else None
    return Draft(graph, cluster, tight)


@lru_cache(maxsize=4)
def suite_graphs(suite: str, most_ops: int) -> Sequence[str]:
    """References to a suite's graphs of at most so many ops.

    Raises:
        GraphwrightError: no such suite, or nothing in it that is small enough.
    """
    names = sorted({pair.graph_ref for pair in get_suite(suite).pairs})
    small = [name for name in names if _graph(name).op_count <= most_ops]
    if not small:
        raise GraphwrightError(
            f"suite {suite} has no graph of at most {most_ops} ops; raise most_ops"
        )
    return tuple(small)


def _graph(reference: str) -> Graph:
    return resolve(reference, allow_unknown=True)


def _draw_cluster(rng: np.random.Generator) -> tuple[str, bool]:
    """Two to sixteen devices of one kind or two, over PCIe, NVLink or Ethernet; whether memory may
    be tightened."""
    kind, other = rng.choice(_KINDS, 2, replace=False)
    form = rng.random()
    if form < 0.5:
        layout = f"{int(rng.choice(_COUNTS, p=_COUNT_CHANCES))}x{kind}"
    elif form < 0.8:
        first, second = (int(value) for value in rng.integers(1, 5, 2))
        layout = f"{first}x{kind}+{second}x{other}"
    elif form < 0.9:
        layout = f"cpu+{int(rng.integers(1, 5))}x{kind}"
    else:
        return f"2x{int(rng.integers(2, 5))}x{kind}-ethernet", False
    has_nvlink = not any(name in layout for name in _WITHOUT_NVLINK)
    link = "nvlink" if rng.random() < 0.2 and has_nvlink else "pcie"
    return f"{layout}-{link}", "cpu" not in layout
