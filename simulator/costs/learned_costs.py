"""A cost model that was learned from measured kernels.

After Kaufman et al., "A Learned Performance Model for Tensor Processing Units" (arXiv 2008.01040,
section 3): opcode embedding and op features, GraphSAGE over the kernel's ops, a reduction, and the
logarithm of the run time.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from graphs.file_presence import is_file
from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind
from graphs.whole_files import write_by_name
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import RooflineCosts, Seconds
from simulator.costs.kernel_features import (
    FEATURES,
    OP_TYPE_BUCKETS,
    TOTALS,
    KernelBatch,
    chosen,
    kernel_batch,
)
from simulator.errors import ClusterError
from simulator.fusion import FusedGraph

#: Kernels that are evaluated at once.
_CHUNK = 4096
#: A core's roofline in round figures, where predictions begin.
_FLOPS_PER_MICROSECOND = 1.5e5
_BYTES_PER_MICROSECOND = 2e4
_CALL_MICROSECONDS = 0.3
_NAMES = 16


@dataclass(frozen=True)
class CostNetworkConfig:
    """Sizes of the network."""

    width: int = 128
    layers: int = 2
    """Rounds of message passing."""
    blocks: int = 3
    """Blocks of two layers each, applied to every op before messages are passed."""


class CostNetwork(nn.Module):
    """Kernels in, logarithms of their run times out.

    Each op has a time, which begins at its roofline; a kernel takes the sum of its ops' times, and
    how much less because they are together.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, config: CostNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.kind = nn.Embedding(len(OpKind), _NAMES)
        self.op_type = nn.Embedding(OP_TYPE_BUCKETS, _NAMES)
        nn.init.zeros_(self.kind.weight)
        nn.init.zeros_(self.op_type.weight)
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.start = nn.Linear(FEATURES + 2 * _NAMES, width)
        self.blocks = nn.ModuleList(_block(width, width) for _ in range(config.blocks))
        self.rounds = nn.ModuleList(_block(3 * width, width) for _ in range(config.layers))
        last = nn.Linear(width, 1), nn.Linear(width, 1)
        for linear in last:  # nothing but the roofline at first
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.alone = nn.Sequential(nn.LayerNorm(width), last[0])
        self.together = nn.Sequential(nn.Linear(2 * width + TOTALS, width), nn.SiLU(), last[1])

    def observe(self, features: Float32[np.ndarray, "nodes features"]) -> None:
        """Take means and deviations of features from these."""
        self.centre.copy_(torch.as_tensor(features.mean(axis=0)))
        self.spread.copy_(torch.as_tensor(features.std(axis=0)).clamp(min=1e-3))

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
        totals = torch.as_tensor(batch.totals, device=device)
        named = torch.cat([self.kind(kinds), self.op_type(types)], dim=1)
        if hide:
            named = named * (torch.rand(len(named), 1, device=device) >= hide)
        usual = ((features - self.centre) / self.spread).clamp(-6.0, 6.0)
        x = self.start(torch.cat([usual, named], dim=1))
        for block in self.blocks:
            x = x + block(x)
        several = torch.nonzero(totals[:, -1] > _TWO_OPS).squeeze(1)
        number = torch.full((batch.count,), -1, device=device)
        number[several] = torch.arange(len(several), device=device)
        inside = torch.nonzero(number[owner] >= 0).squeeze(1)
        position = torch.full((len(x),), -1, device=device)
        position[inside] = torch.arange(len(inside), device=device)
        group, source, target = number[owner[inside]], position[source], position[target]
        members = x[inside]
        for layer in self.rounds:
            before = _mean(members[source], target, len(members))
            after = _mean(members[target], source, len(members))
            members = members + layer(torch.cat([members, before, after], dim=1))
        x = x.index_copy(0, inside, members)
        each = self.alone(x).squeeze(1) + _first_guess(features)
        zero = torch.zeros(batch.count, device=device)
        log_sum = torch.log(zero.index_add(0, owner, torch.exp(each)))
        wide = group.unsqueeze(1).expand_as(members)
        lowest = torch.full((len(several), x.shape[1]), -1e9, device=device)
        largest = lowest.scatter_reduce(0, wide, members, "amax")
        pooled = [_mean(members, group, len(several)), largest, totals[several]]
        return log_sum.index_add(0, several, self.together(torch.cat(pooled, dim=1)).squeeze(1))


class CostEnsemble(nn.Module):
    """Several networks trained from different seeds; the mean of what they say."""

    def __init__(self, members: Sequence[CostNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, batch: KernelBatch) -> Float32[Tensor, " kernels"]:
        """Natural logarithm of microseconds."""
        return torch.stack([member(batch) for member in self.members]).mean(0)


#: Between one and two ops on the scale of `KernelBatch.totals`.
_TWO_OPS = 0.13


def _block(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width)
    )


def _first_guess(features: Tensor) -> Tensor:
    """A roofline with round figures; the network learns what is different from it."""
    flops, read, written = (2 ** (10.0 * features[:, column]) - 1.0 for column in range(3))
    micros = torch.maximum(
        flops / _FLOPS_PER_MICROSECOND, (read + written) / _BYTES_PER_MICROSECOND
    )
    return torch.log(micros + _CALL_MICROSECONDS)


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

    network: CostEnsemble
    device_kind: str = "cpu-core"

    name = "learned"

    def seconds(self, graph: Graph, cluster: Cluster) -> Seconds:
        """See `CostModel`."""
        return self._seconds(graph, cluster, graph, [[op] for op in range(graph.op_count)])

    def fused_seconds(self, graph: Graph, fused: FusedGraph, cluster: Cluster) -> Seconds:
        """See `KernelCostModel`."""
        order = np.argsort(fused.kernel_of, kind="stable")
        counts = np.bincount(fused.kernel_of, minlength=fused.graph.op_count)
        kernels = [part.tolist() for part in np.split(order, np.cumsum(counts)[:-1])]
        return self._seconds(fused.graph, cluster, graph, kernels)

    def _seconds(
        self, shown: Graph, cluster: Cluster, graph: Graph, kernels: list[list[int]]
    ) -> Seconds:
        """Seconds of the ops of `shown`, which are these kernels of `graph`."""
        result = RooflineCosts().seconds(shown, cluster)
        free = np.isin(shown.kinds, [int(kind) for kind in FREE_KINDS]) | (result == 0).all(axis=1)
        learned = np.zeros(shown.op_count)
        busy = np.flatnonzero(~free)
        learned[busy] = self.kernel_seconds(graph, [kernels[op] for op in busy.tolist()])
        for index, device in enumerate(cluster.devices):
            if device.kind == self.device_kind:
                result[:, index] = np.where(np.isinf(result[:, index]), np.inf, learned)
        return result

    def kernel_seconds(
        self, graph: Graph, kernels: list[list[int]]
    ) -> Float64[np.ndarray, " kernels"]:
        """Seconds of groups of ops, each as one kernel."""
        return predicted_seconds(self.network, kernel_batch(graph, kernels))


def predicted_seconds(network: nn.Module, batch: KernelBatch) -> Float64[np.ndarray, " kernels"]:
    """What the network says of each kernel."""
    parts = [np.zeros(0)]
    with torch.inference_mode():
        for at in range(0, batch.count, _CHUNK):
            rows = np.arange(at, min(at + _CHUNK, batch.count))
            part = batch if len(rows) == batch.count else chosen(batch, rows)
            parts.append(np.exp(network(part).double().cpu().numpy()) * 1e-6)
    return np.concatenate(parts)


def save_network(network: CostEnsemble, path: Path, device_kind: str) -> None:
    """Write the weights, in half precision, and what the model is for."""
    from safetensors.torch import save_file

    first = network.members[0]
    assert isinstance(first, CostNetwork)
    about = {name: str(value) for name, value in asdict(first.config).items()}
    about |= {"members": str(len(network.members)), "device_kind": device_kind}
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    write_by_name(path, lambda partial: save_file(weights, partial, about))


def _with_new_kinds(name: str, values: Tensor) -> Tensor:
    """Op kinds that came after a model was trained look to it like custom ops."""
    missing = len(OpKind) - len(values) if name.endswith(".kind.weight") else 0
    if missing > 0:
        values = torch.cat([values, values[int(OpKind.CUSTOM)].expand(missing, -1)])
    return values.float()


def load_learned_costs(path: Path | None = None) -> LearnedCosts:
    """Read a model; None is the one that ships, for CPU cores.

    Raises:
        ClusterError: no such file, or not a cost model.
    """
    from safetensors import SafetensorError, safe_open

    if path is None:
        path = Path(str(files("simulator") / "pretrained" / "cpu_core.safetensors"))
    if not is_file(path):
        raise ClusterError(
            f"{path}: no such file; benchmarks/hardware/train_costs.py makes cost models"
        )
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            sizes = {item.name: int(about[item.name]) for item in fields(CostNetworkConfig)}
            config = CostNetworkConfig(**sizes)
            network = CostEnsemble([CostNetwork(config) for _ in range(int(about["members"]))])
            names = list(file.keys())
            network.load_state_dict({n: _with_new_kinds(n, file.get_tensor(n)) for n in names})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ClusterError(f"{path}: not a learned cost model ({error})") from error
    return LearnedCosts(network.eval(), about["device_kind"])
