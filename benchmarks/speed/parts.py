"""The parts whose speed is followed, and the yardsticks that they are measured by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


def plain_python() -> int:
    """Objects, dictionaries, strings and sorting, about 50 ms of them."""
    total = 0
    for turn in range(6):
        names = {f"op{index}": (index * 7919) % 10007 for index in range(10_000)}
        order = sorted(names, key=names.__getitem__)
        total += sum(len(name) for name in order if names[name] % 3 == turn % 3)
    return total


@cache
def _loops() -> Callable[[np.ndarray], float]:
    from numba import njit

    def walk(values: np.ndarray) -> float:
        total = 0.0
        index = 0
        for _ in range(values.size * 4):
            index = int(values[index])
            total += index * 0.5
        return total

    return njit(walk)


@cache
def _cycle() -> np.ndarray:
    """A permutation of one cycle, 8 MiB, so that caches count."""
    order = np.random.default_rng(0).permutation(1 << 18)
    following = np.empty(order.size, np.int64)
    following[order] = np.roll(order, -1)
    return following


def compiled_loops() -> float:
    """Dependent reads from an array and sums, as an event engine has them."""
    return _loops()(_cycle())


YARDSTICKS: dict[str, Callable[[], object]] = {
    "plain Python": plain_python,
    "compiled loops": compiled_loops,
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of graphwright whose speed is followed.

    Args:
        yardstick: what it is measured by.
        prepare: given a folder, makes what is timed.
    """

    yardstick: str
    prepare: Callable[[Path], Callable[[], object]]


def _problem(name: str) -> Any:
    from graphs.catalogue import resolve
    from placement.problem import Problem
    from simulator.clusters.presets import preset

    return Problem(resolve(name), preset("4xv100-pcie"))


def _onnx(_: Path) -> Callable[[], object]:
    import onnx

    import graphs

    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    return lambda: graphs.load(folder / "light_inception_v2.onnx")


def _tensorflow(folder: Path) -> Callable[[], object]:
    import graphs
    from graphs.workloads.export import write_graph_def
    from graphs.workloads.registry import WORKLOADS

    path = folder / "transformer-xl-2.pb"
    write_graph_def(WORKLOADS["transformer-xl-2"](), path)
    return lambda: graphs.load(path)


def _engine(_: Path) -> Callable[[], object]:
    from placement.placer import Budget, silent
    from placement.placers.registry import get_placer
    from placement.placers.warm_up import warm_up

    warm_up()
    problem = _problem("rnnlm-4")
    plan = get_placer("metis")(problem, Budget(1.0), 0, silent).best.plan
    return lambda: [problem.evaluate(plan) for _ in range(60)]


def _portfolio(_: Path) -> Callable[[], object]:
    from placement.placer import Budget, silent
    from placement.placers.registry import get_placer

    problem = _problem("inception-v3")
    place = get_placer("portfolio")
    return lambda: place(problem, Budget(60.0), 0, silent)


def _policy(_: Path) -> Callable[[], object]:
    import torch

    from agent.decoding.checkpoint import load_one_shot
    from agent.decoding.config import DrawConfig
    from agent.decoding.placer import policy_at
    from agent.decoding.sampling import draw_plans, look_at
    from agent.decoding.subject import make_subject

    torch.set_num_threads(1)
    policy = load_one_shot(policy_at(None)).policy
    subject = make_subject("one", _problem("transformer:7:1000"), 0)
    return lambda: draw_plans(look_at(policy, subject), subject, DrawConfig(), 0)


def _report(_: Path) -> Callable[[], object]:
    from placement.place import place_problem
    from placement.placers.registry import get_placer
    from placement.report import report_html

    placement = place_problem(_problem("transformer-xl-4"), get_placer("metis"), "metis", 1.0, 0)
    return lambda: report_html(placement.reported)


PARTS = {
    "import ONNX": Part("plain Python", _onnx),
    "import TensorFlow": Part("plain Python", _tensorflow),
    "engine": Part("compiled loops", _engine),
    "portfolio": Part("compiled loops", _portfolio),
    "policy": Part("compiled loops", _policy),
    "report": Part("plain Python", _report),
}
