"""A cost model that was learned from measured kernels.

After Kaufman et al., "A Learned Performance Model for Tensor Processing Units" (arXiv 2008.01040,
section 3): opcode embedding and op features, GraphSAGE over the kernel's ops, a reduction, and the
logarithm of the run time.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind
from simulator.cluster import Cluster
from simulator.costs import RooflineCosts, Seconds
from simulator.errors import ClusterError
from simulator.kernel_features import FEATURES, OP_TYPE_BUCKETS, KernelBatch, kernel_batch

#: Kernels that are evaluated at once.
_CHUNK = 4096
_FLOPS_PER_MICROSECOND = 5e4
_BYTES_PER_MICROSECOND = 2e4
_CALL_MICROSECONDS = 6.0


@dataclass(frozen=True)
class CostNetworkConfig:
    """Sizes of the network."""

    width: int = 64
    layers: int = 2
    """Rounds of message passing."""


class CostNetwork(nn.Module):
    """Kernels in, logarithms of seconds out."""

    def __init__(self, config: CostNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.kind = nn.Embedding(len(OpKind), 16)
        self.op_type = nn.Embedding(OP_TYPE_BUCKETS, 16)
        nn.init.zeros_(self.kind.weight)
        nn.init.zeros_(self.op_type.weight)
        self.start = nn.Sequential(nn.Linear(FEATURES + 32, width), nn.SiLU())
        self.rounds = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(config.layers))
        self.head = nn.Sequential(
            nn.Linear(3 * width + FEATURES, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 1),
        )

    def forward(self, batch: KernelBatch, hide: float = 0.0) -> Float32[Tensor, " kernels"]:
        """Natural logarithm of microseconds.

        `hide` is the share of ops whose kind and type are hidden, so that the network knows what
        to say of kinds that it has never seen: those of which the embedding is still zero.
        """
        device = self.kind.weight.device
        features = torch.as_tensor(batch.features, device=device)
        kinds = torch.as_tensor(batch.kinds, device=device)
        types = torch.as_tensor(batch.op_types, device=device)
        source, target = torch.as_tensor(batch.edges, device=device)
        owner = torch.as_tensor(batch.kernel_of, device=device)
        named = torch.cat([self.kind(kinds), self.op_type(types)], dim=1)
        if hide:
            named = named * (torch.rand(len(named), 1, device=device) >= hide)
        x = self.start(torch.cat([features, named], dim=1))
        for layer in self.rounds:
            before = _mean(x[source], target, len(x))
            after = _mean(x[target], source, len(x))
            x = x + nn.functional.silu(layer(torch.cat([x, before, after], dim=1)))
        total = torch.zeros(batch.count, x.shape[1], device=device).index_add(0, owner, x)
        wide = owner.unsqueeze(1).expand_as(x)
        lowest = torch.full((batch.count, x.shape[1]), -1e9, device=device)
        largest = lowest.scatter_reduce(0, wide, x, "amax")
        sums = torch.zeros(batch.count, FEATURES, device=device).index_add(0, owner, features)
        pooled = torch.cat([total, _mean(x, owner, batch.count), largest, sums], dim=1)
        return self.head(pooled).squeeze(1) + _first_guess(features, owner, batch.count)


def _first_guess(features: Tensor, owner: Tensor, count: int) -> Tensor:
    """A roofline with round figures; the network learns what is different from it."""
    flops, read, written = (2 ** (10.0 * features[:, column]) - 1.0 for column in range(3))
    micros = torch.maximum(
        flops / _FLOPS_PER_MICROSECOND, (read + written) / _BYTES_PER_MICROSECOND
    )
    total = torch.zeros(count, device=features.device).index_add(0, owner, micros)
    return torch.log(total + _CALL_MICROSECONDS)


def _mean(
    values: Float32[Tensor, "rows width"], owner: Tensor, count: int
) -> Float32[Tensor, "count width"]:
    sums = torch.zeros(count, values.shape[1], device=values.device).index_add(0, owner, values)
    ones = torch.ones(len(owner), device=values.device)
    sizes = torch.zeros(count, device=values.device).index_add(0, owner, ones)
    return sums / sizes.clamp(min=1.0).unsqueeze(1)


@dataclass(frozen=True, eq=False)
class LearnedCosts:
    """A `CostModel` for the kind of device that it was trained on; others get the roofline."""

    network: CostNetwork
    device_kind: str = "cpu-core"

    name = "learned"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """See `CostModel`."""
        result = RooflineCosts().seconds(graph, cluster)
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS]) | (result == 0).all(axis=1)
        kernels = [[op] for op in np.flatnonzero(~free).tolist()]
        learned = np.zeros(graph.op_count)
        learned[~free] = self.kernel_seconds(graph, kernels)
        for index, device in enumerate(cluster.devices):
            if device.kind == self.device_kind:
                result[:, index] = np.where(np.isinf(result[:, index]), np.inf, learned)
        return result

    def kernel_seconds(
        self, graph: Graph, kernels: list[list[int]]
    ) -> Float64[np.ndarray, " kernels"]:
        """Seconds of groups of ops, each as one kernel."""
        found = [np.zeros(0)]
        with torch.inference_mode():
            for at in range(0, len(kernels), _CHUNK):
                batch = kernel_batch(graph, kernels[at : at + _CHUNK])
                found.append(np.exp(self.network(batch).double().cpu().numpy()) * 1e-6)
        return np.concatenate(found)


def save_network(network: CostNetwork, path: Path, device_kind: str) -> None:
    """Write the weights and what the model is for."""
    from safetensors.torch import save_file

    config = network.config
    about = {"width": str(config.width), "layers": str(config.layers), "device_kind": device_kind}
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path, about)


def load_learned_costs(path: Path | None = None) -> LearnedCosts:
    """Read a model; None is the one that ships, for CPU cores.

    Raises:
        ClusterError: no such file, or not a cost model.
    """
    from safetensors import SafetensorError, safe_open

    if path is None:
        path = Path(str(files("simulator") / "pretrained" / "cpu_core.safetensors"))
    if not path.is_file():
        raise ClusterError(f"{path}: no such file; benchmarks/train_costs.py makes cost models")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            config = CostNetworkConfig(int(about["width"]), int(about["layers"]))
            network = CostNetwork(config)
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ClusterError(f"{path}: not a learned cost model ({error})") from error
    return LearnedCosts(network.eval(), about["device_kind"])
