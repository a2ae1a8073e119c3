"""The event engine: equality with the reference, and time per op and edge, as ratios of one run.

    python benchmarks/speed/engine_speed.py [--exact 1000] [--out FILE.md]

Memory and contention are on throughout. Times are CPU seconds of the fastest of several runs.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.rows import commit
from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.graph import Graph
from placement.place import place_problem
from placement.placers.registry import get_placer
from placement.problem import Problem
from simulator.clusters.presets import preset
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.overlap import overlap_steps
from simulator.event_engine.reference import simulate_reference
from simulator.event_engine.state import NO_RECORDING, make_engine_state
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepOrder, StepSchedule

sys.path.append(str(Path(__file__).parents[2] / "tests" / "samples"))
from graph_samples import random_cluster, random_devices, random_graph, with_hosts

CLUSTER = "4xv100-pcie"
SIZES = (1_000, 10_000, 80_000)


def main() -> None:
    """Print the tables and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"`{' '.join(['python', *sys.argv])}`, commit {commit()}, {platform.processor()} "
        f"{platform.machine()}, Python {platform.python_version()}",
        "",
        exactness(arguments.exact),
        exactness(arguments.exact, hosts=True),
        steps_exactness(arguments.exact),
        "",
        "| graph | ops | edges | one device, ns | portfolio's plan, ns | random devices, ns |",
        "|---|---|---|---|---|---|",
    ]
    for graph in [*(random_graph(1, size, groups=False) for size in SIZES), *bundled()]:
        lines.append(speed_row(graph))
        print(lines[-1], flush=True)
    lines += ["", steps_ratio(), reference_ratio(), threads_ratio()]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def bundled() -> list[Graph]:
    """The graphs that ship with the package, smallest first."""
    return sorted((load_bundled(name) for name in bundled_names()), key=lambda g: g.op_count)


def exactness(count: int, *, hosts: bool = False) -> str:
    """Kernel against reference on random graphs, plans and clusters."""
    equal = 0
    for seed in range(count):
        graph, cluster = random_graph(seed, 5 + seed % 120), random_cluster(seed)
        cluster = with_hosts(cluster, seed) if hosts else cluster
        simulator = Simulator.of(graph, cluster)
        order = np.random.default_rng(seed).integers(0, 9, graph.op_count).astype(float)
        plan = Plan.of(random_devices(graph, cluster, seed), order)
        expected = simulate_reference(graph, cluster, simulator.seconds, plan.devices, plan.ranks)
        trace = simulator.trace(plan)
        same = expected.makespan == trace.makespan_seconds
        same &= expected.peak_bytes == tuple(trace.peak_bytes)
        same &= all(expected.start[0, op] == trace.start[op] for op in range(graph.op_count))
        same &= all(expected.end[0, op] == trace.end[op] for op in range(graph.op_count))
        equal += same
    which = ", devices that send and receive themselves" if hosts else ""
    cases = f"random DAG x plan x cluster{which}"
    return f"Kernel equals reference exactly: {equal} of {count} {cases}."


def steps_exactness(count: int) -> str:
    """Kernel against reference where several steps overlap, in each order."""
    equal = 0
    for seed in range(count):
        graph, cluster = random_graph(seed, 5 + seed % 60), random_cluster(seed)
        phases = np.arange(graph.op_count) * 3 // max(graph.op_count, 1)
        graph = replace(graph, phases=(phases * (seed % 2)).astype(np.uint8))
        simulator = Simulator.of(graph, cluster)
        plan = Plan.of(random_devices(graph, cluster, seed))
        steps = 1 + seed % 7
        order = list(StepOrder)[seed % 3]
        schedule = StepSchedule(steps, steps if order == StepOrder.GPIPE else 1 + seed % 4, order)
        expected = simulate_reference(
            graph, cluster, simulator.seconds, plan.devices, plan.ranks, schedule=schedule
        )
        trace = simulator.trace_steps(plan, schedule)
        same = expected.makespan == trace.evaluation.makespan_seconds
        same &= expected.peak_bytes == trace.evaluation.peak_bytes
        same &= all(trace.start[task] == at for task, at in expected.start.items())
        same &= all(trace.end[task] == at for task, at in expected.end.items())
        equal += same
    cases = "random DAG x plan x cluster x schedule of steps that overlap"
    return f"Kernel equals reference exactly: {equal} of {count} {cases}."


def steps_ratio() -> str:
    """What a step among several costs, over one by itself."""
    graph, cluster = random_graph(1, 10_000, groups=False), preset(CLUSTER)
    graph = replace(graph, phases=np.zeros_like(graph.phases))
    simulator = Simulator.of(graph, cluster)
    plan = Plan.of((np.arange(graph.op_count) * 4 // graph.op_count).astype(np.int32))
    one = kernel_seconds(simulator, plan)
    size = graph.op_count + graph.edge_count
    schedule = StepSchedule(32, 8)
    arrays = simulator.program.arrays
    overlap = overlap_steps(simulator.program, schedule, plan.devices)
    state, peak = make_engine_state(arrays, overlap=overlap), np.zeros(4, np.int64)
    several = fastest(
        lambda: run_kernel(arrays, state, plan.devices, plan.ranks, peak, NO_RECORDING), 5
    )
    return (
        f"Of 32 steps, 8 in flight, 10,000 ops in four stages, each takes "
        f"{several / 32 / size * 1e9:.0f} ns for each op and edge, {several / 32 / one:.2f} times "
        "as much as a step by itself."
    )


def speed_row(graph: Graph) -> str:
    """Nanoseconds per (op + edge) under three placements."""
    problem = Problem(graph, preset(CLUSTER))
    rng = np.random.default_rng(0)
    found = place_problem(problem, get_placer("portfolio"), "portfolio", 1.0, 0).plan
    spread = rng.integers(0, 4, problem.unit_count).astype(np.int32)[problem.unit_of]
    plans = [Plan.of(np.zeros(graph.op_count, np.int32)), found, Plan.of(spread)]
    size = graph.op_count + graph.edge_count
    cells = [f"{kernel_seconds(problem.simulator, plan) / size * 1e9:.0f}" for plan in plans]
    return f"| {graph.name} | {graph.op_count} | {graph.edge_count} | {' | '.join(cells)} |"


def kernel_seconds(simulator: Simulator, plan: Plan, repeats: int = 15) -> float:
    """CPU seconds of one run, the fastest of several."""
    arrays = simulator.program.arrays
    state, peak = make_engine_state(arrays), np.zeros(simulator.cluster.device_count, np.int64)
    return fastest(
        lambda: run_kernel(arrays, state, plan.devices, plan.ranks, peak, NO_RECORDING), repeats
    )


def fastest(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest run."""
    times = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times[1:])


def reference_ratio() -> str:
    """Kernel against plain Python on 10,000 ops."""
    graph, cluster = random_graph(1, 10_000, groups=False), preset(CLUSTER)
    simulator = Simulator.of(graph, cluster)
    plan = Plan.of(random_devices(graph, cluster, 0))
    kernel = kernel_seconds(simulator, plan)
    plain = fastest(
        lambda: simulate_reference(graph, cluster, simulator.seconds, plan.devices, plan.ranks), 2
    )
    return f"Plain Python takes {plain / kernel:.0f} times as long on 10,000 ops, random devices."


def threads_ratio() -> str:
    """`evaluate_many` on one thread against two, by wall time."""
    graph, cluster = random_graph(1, 10_000, groups=False), preset(CLUSTER)
    simulator = Simulator.of(graph, cluster)
    plans = [Plan.of(random_devices(graph, cluster, seed)) for seed in range(200)]
    times = []
    for threads in (1, 2):
        best = np.inf
        for _ in range(4):
            begun = time.perf_counter()
            simulator.evaluate_many(plans, threads)
            best = min(best, time.perf_counter() - begun)
        times.append(best)
    return f"evaluate_many of 200 plans: {times[0] / times[1]:.2f} times as fast on two threads."


if __name__ == "__main__":
    main()
