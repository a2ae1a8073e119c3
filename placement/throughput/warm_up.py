"""Compiles the kernels of pipelines, or loads them from numba's cache, before any clock runs."""

from functools import cache

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind, Phase
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput.pipeline import plan_pipeline
from placement.throughput.request import Throughput, Transfers
from simulator.clusters.presets import preset


@cache
def warm_up_pipelines() -> None:
    """Plan a pipeline of four ops for each machine; a minute or two after installation."""
    for phases in ((Phase.FORWARD,) * 4, (*(Phase.FORWARD,) * 2, Phase.BACKWARD, Phase.UPDATE)):
        problem = Problem(_chain(phases), preset("2xv100-pcie"))
        request = Throughput(micro_batches=1 + (Phase.UPDATE in phases))
        plan_pipeline(problem, Budget(0.0), 0, request)
    hops = Throughput(transfers=Transfers.HOPS)
    plan_pipeline(
        Problem(_chain((Phase.FORWARD,) * 4), preset("2xv100-pcie")), Budget(0.0), 0, hops
    )


def _chain(phases: tuple[Phase, ...]) -> Graph:
    builder = GraphBuilder("warm-up")
    for at, phase in enumerate(phases):
        builder.add(
            OpRecord(
                f"op{at}",
                "Op",
                OpKind.MATMUL,
                inputs=[f"op{at - 1}"] if at else [],
                outputs=[OutputTensor(f"op{at}", 1)],
                flops=1.0,
                phase=phase,
            )
        )
    return builder.build(ImportReport())
