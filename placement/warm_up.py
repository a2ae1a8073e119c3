"""Compiles the kernels, or loads them from numba's cache, before anybody's clock runs."""

from pathlib import Path

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.import_report import ImportReport
from graphs.kinds import OpKind
from placement.anneal import Annealer
from placement.heuristics import HeuristicPlacer
from placement.hierarchy import build_hierarchy
from placement.placer import Budget, Report, silent
from placement.portfolio import MEMBERS
from placement.problem import Problem
from simulator.fusion import xla_like_groups
from simulator.presets import preset

_ready = False


def warm_up(report: Report = silent) -> None:
    """Run every kernel once on three ops; 20 CPU seconds on the first use after installation.

    Args:
        report: told the share of the steps that are done.
    """
    global _ready  # noqa: PLW0603 - kernels are compiled once per process
    if _ready:
        return
    builder = GraphBuilder("warm-up")
    builder.add(OpRecord("a", "A", OpKind.MATMUL, outputs=[OutputTensor("a", 1)], flops=1.0))
    for name, source in (("b", "a"), ("c", "b")):
        builder.add(
            OpRecord(
                name,
                "B",
                OpKind.ELEMENTWISE,
                inputs=[source],
                outputs=[OutputTensor(name, 1)],
                flops=1.0,
            )
        )
    problem = Problem(builder.build(ImportReport()), preset("2xv100-pcie"))
    budget = Budget(0.0)
    stages = len(MEMBERS) + 3
    for number, heuristic in enumerate(MEMBERS.values()):
        best = HeuristicPlacer(heuristic)(problem, budget, 0, silent).best
        report((number + 1) / stages)
    problem.simulator.trace(best.plan)
    report((stages - 2) / stages)
    xla_like_groups(problem.graph, best.plan.devices)
    report((stages - 1) / stages)
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    chain = annealer.start(best.plan.devices, best.plan.ranks, 0)
    annealer.reprioritised(annealer.advance(chain, 1, 0.0))
    report(1.0)
    _ready = True


def is_compiled() -> bool:
    """Whether kernels lie in numba's cache, so that nobody has to wait for them."""
    from simulator.kernel import run_kernel

    folder = run_kernel.stats.cache_path  # type: ignore[attr-defined]
    return bool(folder) and any(Path(folder).glob("kernel.run_kernel-*.nbi"))
