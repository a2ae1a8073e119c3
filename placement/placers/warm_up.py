"""Compiles the kernels, or loads them from numba's cache, before anybody's clock runs."""

from functools import cache

import numpy as np

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.import_report import ImportReport
from graphs.kinds import OpKind
from placement.annealing.anneal import Annealer
from placement.annealing.fusing.joint_anneal import JointAnnealer
from placement.annealing.guided_anneal import Guidance, GuidedAnnealer
from placement.annealing.hierarchy import build_hierarchy
from placement.annealing.move_scorer import blank_scorer
from placement.decoding.drawing import make_decoder
from placement.decoding.least_memory import least_peak_bytes
from placement.heuristics.registry import HEURISTICS
from placement.placer import Budget, silent
from placement.problem import Problem
from placement.simplicity.crossings import Moves, crossings_saved, tally
from simulator.clusters.presets import preset
from simulator.fusion import xla_like_groups


@cache
def warm_up() -> None:
    """Run every kernel once on three ops; seconds on the first use after installation."""
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
    for heuristic in HEURISTICS.values():
        best = heuristic(problem, budget, 0, silent).best
    problem.simulator.trace(best.plan)
    xla_like_groups(problem.graph, best.plan.devices)
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    chain = annealer.start(best.plan.devices, best.plan.ranks, 0)
    chain = annealer.reprioritise(annealer.advance(chain, 1, 0.0))
    moves = Moves(np.array([0, 1]), np.array([0]), np.array([1], np.int32))
    crossings_saved(problem, tally(problem, best.plan.devices), moves)
    GuidedAnnealer(annealer, blank_scorer(), Guidance(16, 2.0, 0.1, 1)).advance(chain, 1, 0.0, 0.0)
    least_peak_bytes(make_decoder(problem))
    joint = JointAnnealer(problem, build_hierarchy(problem, 0))
    joint.advance(joint.start(best.plan, np.ones(problem.graph.op_count), 0), 1, 0.0)
