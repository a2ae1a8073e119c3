"""Steps that overlap: the largest load of any device or channel is what a step takes once a
pipeline is full.

Two machines: the simulator's, where transfers keep channels busy beside compute, and hops through
the host in the semantics of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN
Graph Operators" (NeurIPS 2020): an accelerator's load is its compute and the transfers into and out
of it, each tensor once, one after the other; CPU cores compute only.
"""

from placement.throughput.contiguous import ContiguousSplit, best_contiguous_split
from placement.throughput.load_problem import LoadProblem, channel_problem, load_problem
from placement.throughput.load_search import search_loads
from placement.throughput.loads import device_loads, period_of, resource_loads
from placement.throughput.pipeline import Pipeline, plan_pipeline
from placement.throughput.pipeline_placer import PipelinePlacer
from placement.throughput.replication import ReplicatedSplit
from placement.throughput.request import Throughput, Transfers
from placement.throughput.splits import Split, pipeline_plan, simplest_of
from placement.throughput.warm_up import warm_up_pipelines

__all__ = [
    "ContiguousSplit",
    "LoadProblem",
    "Pipeline",
    "PipelinePlacer",
    "ReplicatedSplit",
    "Split",
    "Throughput",
    "Transfers",
    "best_contiguous_split",
    "channel_problem",
    "device_loads",
    "load_problem",
    "period_of",
    "pipeline_plan",
    "plan_pipeline",
    "resource_loads",
    "search_loads",
    "simplest_of",
    "warm_up_pipelines",
]
