"""Cost models by name, for those who choose one."""

from collections.abc import Callable, Mapping
from pathlib import Path

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.costs.calibrated_costs import CalibratedCosts
from simulator.costs.cost_model import CostModel, ProfiledCosts, RooflineCosts
from simulator.errors import ClusterError


def default_costs(graph: Graph, cluster: Cluster) -> CostModel:
    """Profiled times where the graph has them for every device of the cluster, else what the
    cluster was calibrated with, else roofline.

    Example:
        >>> default_costs(graph, cluster).name
        'roofline'
    """
    if all(device.kind in graph.profiled_seconds for device in cluster.devices):
        return ProfiledCosts()
    if cluster.calibration is not None and graph.flops.any():
        return CalibratedCosts(cluster.calibration.times)
    if graph.profiled_seconds and not graph.flops.any():
        known = ", ".join(sorted(graph.profiled_seconds))
        raise ClusterError(
            f"graph {graph.name!r} only has profiled times, for device kinds {known}; give a "
            "cluster of those kinds (for a benchmark file, the file itself is one)"
        )
    return RooflineCosts()


def _calibrated_costs(graph: Graph, cluster: Cluster) -> CostModel:
    if cluster.calibration is None:
        raise ClusterError(
            f"cluster {cluster.name!r} was never measured; `graphwright calibrate` measures"
        )
    return CalibratedCosts(cluster.calibration.times)


def _learned_costs(graph: Graph, cluster: Cluster) -> CostModel:
    return _from_file(None, graph, cluster)


def _from_file(path: Path | None, graph: Graph, cluster: Cluster) -> CostModel:
    from simulator.costs.learned_costs import load_learned_costs  # torch takes its time

    model = load_learned_costs(path)
    if graph.profiled_seconds and not graph.flops.any():
        raise ClusterError(f"graph {graph.name!r} only has profiled times: nothing to learn from")
    kinds = sorted({device.kind for device in cluster.devices})
    if model.device_kind not in kinds:
        raise ClusterError(
            f"costs were learned on devices of kind {model.device_kind!r}; cluster "
            f"{cluster.name!r} has {', '.join(kinds)}; `graphwright clusters probe` makes one "
            "of this machine's cores, and benchmarks/hardware/train_costs.py learns other devices"
        )
    return model


COST_MODELS: Mapping[str, Callable[[Graph, Cluster], CostModel]] = {
    "auto": default_costs,
    "roofline": lambda graph, cluster: RooflineCosts(),
    "profiled": lambda graph, cluster: ProfiledCosts(),
    "calibrated": _calibrated_costs,
    "learned": _learned_costs,
}


def cost_model(name: str, graph: Graph, cluster: Cluster) -> CostModel:
    """The cost model of that name, or the learned one in that file.

    Raises:
        ClusterError: no such model or file, or one that says nothing of the graph or cluster.
    """
    if name in COST_MODELS:
        return COST_MODELS[name](graph, cluster)
    if Path(name).suffix == ".safetensors":
        return _from_file(Path(name), graph, cluster)
    raise ClusterError(
        f"no costs called {name!r}; there are {', '.join(COST_MODELS)}, and files of learned costs "
        "(.safetensors)"
    )
