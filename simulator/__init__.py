"""How long it takes: clusters, plans, cost models, the event engine, traces."""

import graphs.own_packages  # noqa: F401 - refuses what is not graphwright's
from simulator.bounds import LowerBounds, lower_bounds
from simulator.cluster_file import dump_cluster, load_cluster, parse_cluster
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.presets import preset
from simulator.costs.cost_model import CostModel, ProfiledCosts, RooflineCosts
from simulator.costs.registry import default_costs
from simulator.errors import ClusterError, InfeasibleError, PlanError
from simulator.evaluation import BatchEvaluation, Evaluation, Evaluator, OutOfMemory
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate, simulate_many
from simulator.traces.trace import Trace

__all__ = [
    "BatchEvaluation",
    "Cluster",
    "ClusterError",
    "CostModel",
    "Device",
    "Evaluation",
    "Evaluator",
    "InfeasibleError",
    "Link",
    "LowerBounds",
    "OutOfMemory",
    "Plan",
    "PlanError",
    "ProfiledCosts",
    "RooflineCosts",
    "Simulator",
    "Trace",
    "default_costs",
    "dump_cluster",
    "load_cluster",
    "lower_bounds",
    "parse_cluster",
    "preset",
    "simulate",
    "simulate_many",
]
