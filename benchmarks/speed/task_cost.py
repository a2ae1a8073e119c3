"""What a task costs beside its work, in this process, in several and on Ray; and what follows.

    python benchmarks/speed/task_cost.py
    python benchmarks/speed/task_cost.py --without-ray

An empty task tells what handing over costs, a small pair placed by HEFT what a short run costs.
From these, from what the store takes for a row and from what a learner takes for a move, it works
out on paper where a thousand workers would stop being of use. Writes `results/task_cost.md`.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.evaluation.result_keys import suite_key
from agent.evaluation.suite_job import SuiteJob, SuiteTask
from agent.runs.result_store import ResultStore
from agent.tasks.perform import packed
from agent.tasks.registry import IN_PROCESS, PROCESSES, RAY, RunnerOptions, open_runner
from agent.tasks.task_runner import TaskRunner
from benchmarks.rows import RESULTS, commit
from benchmarks.speed.empty_job import Empty
from placement.placers.registry import get_placer
from placement.placers.warm_up import warm_up
from placement.suites import Headroom, Pair

PAIR = Pair("rnnlm:5:300", "4xv100-pcie", Headroom.SLOW_LINKS)
WORKERS = 1000
#: Of a table's usual runs: CPU seconds that each may spend.
BUDGETS_SECONDS = (1.0, 10.0, 60.0)
#: Networks between machines: bytes per second that arrive at one.
NETWORKS = {"1 Gbit/s": 1e9 / 8, "10 Gbit/s": 1e10 / 8}


@dataclass(frozen=True)
class Cost:
    """Of tasks at one place."""

    name: str
    start_seconds: float
    """Until the first result, of a task that is empty."""
    empty_seconds: float
    """By the clock, a task; the median of several rounds."""
    driver_seconds: float
    """CPU seconds of the process that hands them out, a task."""
    pair_seconds: float
    """By the clock, a small pair."""


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--without-learner", action="store_true", help="torch is not imported")
    parser.add_argument("--out", type=Path, default=RESULTS / "task_cost.md")
    given = parser.parse_args()
    warm_up()
    busy = os.getloadavg()[0]
    costs = []
    for name in (IN_PROCESS, PROCESSES) if given.without_ray else (IN_PROCESS, PROCESSES, RAY):
        costs.append(measured(name, given))
        print(costs[-1], flush=True)
    figures = {
        "put": put_seconds(200),
        "get": get_seconds(200),
        "row": float(len(packed(a_row()))),
        "task": float(len(packed(SuiteTask(PAIR, "heft")))),
        **({} if given.without_learner else learner()),
    }
    print(figures, flush=True)
    text = page(costs, figures, busy, given)
    given.out.write_text(text, encoding="utf-8")
    print(text)


def measured(name: str, given: argparse.Namespace) -> Cost:
    """Costs at one place."""
    begun = time.perf_counter()
    with open_runner(name, RunnerOptions(given.jobs)) as runner:
        for _ in runner.run(Empty(), range(1)):
            pass
        start = time.perf_counter() - begun
        list(runner.run(Empty(), range(4 * given.jobs)))  # all processes are there
        spans, spent = [], []
        for _ in range(given.rounds):
            wall, cpu = span(runner, Empty(), range(given.tasks))
            spans.append(wall / given.tasks)
            spent.append(cpu / given.tasks)
        job = SuiteJob(("heft",), 1.0, 0)
        pairs = [SuiteTask(PAIR, "heft")] * 20
        list(runner.run(job, pairs))  # each process has built the pair
        of_pairs = [span(runner, job, pairs)[0] / len(pairs) for _ in range(given.rounds)]
    return Cost(
        name, start, statistics.median(spans), statistics.median(spent),
        statistics.median(of_pairs),
    )  # fmt: skip


def span(runner: TaskRunner, job: Any, tasks: Sequence[Any]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of this process, for all tasks."""
    wall, cpu = time.perf_counter(), time.process_time()
    assert sum(1 for _ in runner.run(job, tasks)) == len(tasks)
    return time.perf_counter() - wall, time.process_time() - cpu


def a_row() -> Any:
    """What comes back from a run."""
    return SuiteJob(("heft",), 1.0, 0)(SuiteTask(PAIR, "heft"))


def put_seconds(count: int) -> float:
    """By the clock, a row that is on disk; the median."""
    key = suite_key(PAIR, "heft", get_placer("heft"), 1.0, 0)
    row, spans = a_row(), []
    with tempfile.TemporaryDirectory() as folder, ResultStore(Path(folder) / "s") as store:
        for seed in range(count):
            begun = time.perf_counter()
            store.put(replace(key, seed=seed), row.as_dict(), 1.0)
            spans.append(time.perf_counter() - begun)
    return statistics.median(spans)


def get_seconds(count: int) -> float:
    """By the clock, a row that is looked up with its key; the median."""
    spans = []
    with tempfile.TemporaryDirectory() as folder, ResultStore(Path(folder) / "s") as store:
        key = suite_key(PAIR, "heft", get_placer("heft"), 1.0, 0)
        store.put(key, a_row().as_dict(), 1.0)
        for _ in range(count):
            begun = time.perf_counter()
            assert store.get(suite_key(PAIR, "heft", get_placer("heft"), 1.0, 0)) is not None
            spans.append(time.perf_counter() - begun)
    return statistics.median(spans)


def learner() -> dict[str, float]:
    """What a learner of the small network takes: CPU seconds to learn a move, bytes of one, bytes
    of the network, and moves that a worker tries in a CPU second."""
    import torch

    from agent.config import AgentConfig
    from agent.placing.policy_placer import PolicyPlacer
    from agent.placing.registry import get_placer as any_placer
    from placement.annealing.anneal import Annealer
    from placement.annealing.guided_anneal import GuidedAnnealer, Harvest
    from placement.annealing.hierarchy import build_hierarchy
    from placement.annealing.move_features import MOVE_COLUMNS
    from placement.placer import Budget, silent
    from placement.placers.portfolio import portfolio

    torch.set_num_threads(1)
    policy = any_placer("policy")
    assert isinstance(policy, PolicyPlacer)
    network = policy.network.moves
    problem = PAIR.problem()
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    plan = portfolio(problem, Budget(5.0), 0, silent).best.plan
    guided = GuidedAnnealer(annealer, network.as_scorer(), AgentConfig().guide.guidance)
    columns, count = len(MOVE_COLUMNS), 2000
    harvest = Harvest(np.zeros((count, columns), np.float32), np.zeros(count, np.float32))
    chain = annealer.start(plan.devices, plan.ranks, 0)
    chain = guided.advance(chain, 50, 0.02, 1.0)
    begun = time.process_time()
    tried = guided.advance(chain, count, 0.02, 1.0, harvest).evaluations - chain.evaluations
    per_second = tried / (time.process_time() - begun)
    features = torch.from_numpy(harvest.features)
    wanted = torch.from_numpy((harvest.changes < 0).astype(np.float32))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    spans = []
    for _ in range(10):
        begun = time.process_time()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(features), wanted)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        spans.append(time.process_time() - begun)
    return {
        "learn": statistics.median(spans) / count,
        "move": float(4 * (columns + 1)),
        "network": float(sum(item.nbytes for item in network.as_scorer())),
        "moves": per_second,
    }


def page(
    costs: Sequence[Cost], figures: dict[str, float], busy: float, given: argparse.Namespace
) -> str:
    """Markdown."""
    lines = [
        "# What a task costs",
        "",
        f"Milliseconds. {given.jobs} processes on {os.cpu_count()} cores of {platform.machine()}, "
        f"load {busy:.1f} before the run"
        + (": the machine was shared, and figures are upper ones. " if busy > 0.5 else ". ")
        + f"Medians of {given.rounds} rounds of {given.tasks} empty tasks, and of 20 times HEFT on "
        f"{PAIR.graph_ref} ({PAIR.cluster_ref}). Command: `python benchmarks/speed/task_cost.py`, "
        f"commit {commit()}.",
        "",
        "| where | until the first result | empty task | CPU of the driver, a task | small pair |",
        "|---|---:|---:|---:|---:|",
    ]
    for cost in costs:
        cells = (cost.start_seconds, cost.empty_seconds, cost.driver_seconds, cost.pair_seconds)
        lines.append(
            f"| {cost.name} | " + " | ".join(f"{1e3 * cell:,.2f}" for cell in cells) + " |"
        )
    lines += [
        "",
        f"The store takes {1e3 * figures['put']:.2f} ms for a row that is on disk and "
        f"{1e3 * figures['get']:.2f} ms to look one up, key included. A task is "
        f"{figures['task']:,.0f} bytes, a row that comes back {figures['row']:,.0f}.",
        "",
        f"## {WORKERS:,} workers, on paper",
        "",
        "No machine of that size was there. Each figure is a rate above divided into another one: "
        "how many workers keep a part busy all the time, if nothing else limits them.",
        "",
        "| runs of | a driver hands out to | the store writes for | 1 Gbit/s carries rows of "
        "| 10 Gbit/s |",
        "|---|---:|---:|---:|---:|",
    ]
    driver = costs[-1].driver_seconds
    for seconds in BUDGETS_SECONDS:
        carried = [
            rate / (figures["row"] + figures["task"]) * seconds for rate in NETWORKS.values()
        ]
        counts = (seconds / driver, seconds / (figures["put"] + driver), *carried)
        lines.append(
            f"| {seconds:g} CPU s | " + " | ".join(f"{count:,.0f}" for count in counts) + " |"
        )
    least = WORKERS * (figures["put"] + driver)
    sent = WORKERS * (figures["row"] + figures["task"])
    slowest, speed = next(iter(NETWORKS.items()))
    first = "the network" if sent / speed > least else "the driver with its store"
    larger = "storing rows" if figures["put"] > driver else "handing out tasks"
    lines += [
        "",
        f"The driver hands out ({costs[-1].name}) and writes in one process. {WORKERS:,} workers "
        f"keep it busy with runs of {least:.2f} CPU seconds; with shorter ones they wait for it. "
        f"{slowest} is full with runs of {sent / speed:.3f} CPU seconds: {first} comes first, and "
        f"the larger part of its time is {larger}.",
    ]
    if "learn" in figures:
        lines += _learner_lines(figures)
    return "\n".join(lines) + "\n"


def _learner_lines(figures: dict[str, float]) -> list[str]:
    """Where a learner of the moves that workers try saturates."""
    rate = WORKERS * figures["moves"]
    cores = rate * figures["learn"]
    bytes_in = rate * figures["move"]
    one_copy = WORKERS * figures["network"]
    lines = [
        "",
        "### Experience for a learner",
        "",
        f"A worker tries {figures['moves']:,.0f} moves in a CPU second on this pair; a move with "
        f"its outcome is {figures['move']:.0f} bytes, learning it takes the small network "
        f"{1e6 * figures['learn']:.2f} us of a core, and the network is {figures['network']:,.0f} "
        "bytes.",
        "",
        f"- One core learns all moves of {1 / (figures['moves'] * figures['learn']):,.0f} workers; "
        f"{WORKERS:,} would need {cores:,.0f} cores, or to send one move in {max(cores, 1):,.0f}.",
    ]
    lines += [
        f"- All moves of {WORKERS:,} workers are {bytes_in / 1e6:,.0f} MB/s: {name} carries those "
        f"of {speed / (figures['moves'] * figures['move']):,.0f} workers, and sends a new network "
        f"to {WORKERS:,} workers in {one_copy / speed:.2f} s."
        for name, speed in NETWORKS.items()
    ]
    lines.append(
        "- So the learner is full first, then the network into it; sampling moves at the workers "
        "moves both limits alike."
        if 1 / figures["learn"] < NETWORKS["1 Gbit/s"] / figures["move"]
        else "- So the network into the learner is full first at 1 Gbit/s, then the learner; "
        "sampling moves at the workers moves both limits alike."
    )
    return lines


if __name__ == "__main__":
    main()
