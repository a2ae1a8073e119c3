"""Steps that overlap: the largest load of any device is what a step takes once a pipeline is full.

Here in the semantics of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph
Operators" (NeurIPS 2020): an accelerator's load is its compute and the transfers into and out of
it, each tensor once, one after the other; CPU cores compute only.
"""

from placement.throughput.contiguous import ContiguousSplit, best_contiguous_split
from placement.throughput.load_problem import LoadProblem, channel_problem, load_problem
from placement.throughput.load_search import search_loads
from placement.throughput.loads import device_loads, period_of, resource_loads
from placement.throughput.pipeline import Pipeline, PipelinePlacer, Split, plan_pipeline

__all__ = [
    "ContiguousSplit",
    "LoadProblem",
    "Pipeline",
    "PipelinePlacer",
    "Split",
    "best_contiguous_split",
    "device_loads",
    "load_problem",
    "plan_pipeline",
    "search_loads",
]
