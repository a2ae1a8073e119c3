"""Small problems whose best plan is known, as environments: does an agent learn at all?

Figures are by hand: a device does one flop a second and a link sends one byte a second, so that an
op of n flops takes n seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from envs.environment import GraphEnv
from envs.episodes import Episodes
from envs.errors import EpisodeError
from envs.tasks import Task
from envs.vector import BatchedEnv
from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind
from placement.constraints import Constraints
from placement.problem import Problem
from simulator.clusters.cluster import Cluster, Device, Link

_AMPLE_BYTES = 1 << 40


@dataclass(frozen=True, eq=False)
class KnownOptimum:
    """A problem with the step time of its best plan."""

    problem: Problem
    seconds: float
    """No plan is faster in what the task decides, the rest as the environment has it."""
    task: Task


def two_chains(length: int = 6) -> KnownOptimum:
    """Each chain on a device of its own: half the time of one device; any cut costs much."""
    ops = [
        _op(f"{name}{i}", 1.0, (f"{name}{i - 1}",) if i else (), 5)
        for name in "ab"
        for i in range(length)
    ]
    problem = Problem(_graph("two-chains", *ops), _cluster(2))
    return KnownOptimum(problem, float(length), Task.PLACEMENT)


def fork_join() -> KnownOptimum:
    """A long branch and three short ones between a source and a sink, on two devices."""
    lengths = (6.0, 2.0, 2.0, 2.0)
    branches = [_op(f"branch{i}", lengths[i], ("source",), 1) for i in range(4)]
    sink = _op("sink", 1.0, tuple(f"branch{i}" for i in range(4)), 0)
    graph = _graph("fork-join", _op("source", 1.0, (), 1), *branches, sink)
    # The source runs and is sent; the long branch here from 1 to 7, the short ones there from 2
    # to 8, which the long one's output reaches at 8 as well; then the sink.
    return KnownOptimum(Problem(graph, _cluster(2)), 9.0, Task.PLACEMENT)


def forced_split() -> KnownOptimum:
    """Parameters that fit on no device together: the chain must be cut once, at its thin place."""
    sizes = (8, 8, 1, 8, 8, 0)
    ops = [
        _op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), sizes[i], resident_bytes=30)
        for i in range(6)
    ]
    problem = Problem(_graph("forced-split", *ops), _cluster(2, memory_bytes=110))
    return KnownOptimum(problem, 7.0, Task.PLACEMENT)


def one_right_order() -> KnownOptimum:
    """All on one device but `far`: what feeds it has to run first, which ranks do not tell.

    Critical-path priority runs `decoy` first, since what follows it is longer on paper; the order
    that is right overlaps the transfer with it.
    """
    graph = _graph(
        "one-right-order",
        _op("decoy", 5.0, (), 1),
        _op("feed", 1.0, (), 4),
        _op("far", 4.0, ("feed",), 0),
        _op("near", 5.0, ("decoy",), 0),
    )
    pins = {"decoy": "d0", "feed": "d0", "far": "d1", "near": "d0"}
    problem = Problem(graph, _cluster(2), Constraints(pins=pins))
    return KnownOptimum(problem, 11.0, Task.SCHEDULING)


def elementwise_chain(length: int = 6) -> KnownOptimum:
    """On one device, on which starting a kernel takes a second and nothing else any time: one
    kernel is best."""
    ops = [
        _op(f"e{i}", 0.0, (f"e{i - 1}",) if i else (), 4, kind=OpKind.ELEMENTWISE)
        for i in range(length)
    ]
    cluster = Cluster("launch", (_device("d0", _AMPLE_BYTES, launch_seconds=1.0),))
    problem = Problem(_graph("elementwise-chain", *ops), cluster)
    return KnownOptimum(problem, 1.0, Task.FUSION)


#: By the name that the environments' ids have it under.
KNOWN_OPTIMA: Mapping[str, Callable[[], KnownOptimum]] = MappingProxyType(
    {
        "TwoChains": two_chains,
        "ForkJoin": fork_join,
        "ForcedSplit": forced_split,
        "OneRightOrder": one_right_order,
        "ElementwiseChain": elementwise_chain,
    }
)


def make_known(known: str, **settings: Any) -> GraphEnv:
    """An environment on a problem of `KNOWN_OPTIMA`, with `optimum_seconds` in `info`.

    Args:
        known: the problem's name.
        settings: of `GraphEnv`, but for tasks and where graphs come from.

    Raises:
        EpisodeError: no such problem, or settings that do not go together.
    """
    return GraphEnv(**_settings(known, settings))


def make_known_batch(known: str, num_envs: int = 1, **settings: Any) -> BatchedEnv:
    """The same as a `BatchedEnv`.

    Args:
        known: the problem's name.
        num_envs: plans per step.
        settings: as for `make_known`, and those of `BatchedEnv`.

    Raises:
        EpisodeError: no such problem, or settings that do not go together.
    """
    return BatchedEnv(num_envs, **_settings(known, settings))


def _settings(known: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if known not in KNOWN_OPTIMA:
        raise EpisodeError(f"no known optimum {known!r}; there are {', '.join(KNOWN_OPTIMA)}")
    found = KNOWN_OPTIMA[known]()
    episodes = Episodes((found.problem,), optimum_seconds=found.seconds)
    return {**settings, "tasks": (found.task,), "episodes": episodes}


def _op(
    name: str,
    seconds: float,
    inputs: tuple[str, ...],
    output_bytes: int,
    kind: OpKind = OpKind.MATMUL,
    resident_bytes: int = 0,
) -> OpRecord:
    return OpRecord(
        name=name,
        op_type=kind.name.title(),
        kind=kind,
        inputs=inputs,
        outputs=(OutputTensor(name, output_bytes),),
        flops=seconds,
        resident_bytes=resident_bytes,
    )


def _graph(name: str, *ops: OpRecord) -> Graph:
    builder = GraphBuilder(name)
    for record in ops:
        builder.add(record)
    return builder.build(ImportReport())


def _device(name: str, memory_bytes: int, launch_seconds: float = 0.0) -> Device:
    return Device(name, "toy", memory_bytes, {"float32": 1.0}, 1e30, launch_seconds)


def _cluster(count: int, memory_bytes: int = _AMPLE_BYTES) -> Cluster:
    names = [f"d{index}" for index in range(count)]
    links = tuple(Link(a, b, 1.0, 0.0) for a in names for b in names if a != b)
    return Cluster(f"toy-{count}", tuple(_device(name, memory_bytes) for name in names), links)
