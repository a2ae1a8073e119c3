"""Op embeddings: kind and features, then max-pool GraphSAGE from both sides."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm
from torch_geometric.utils import segment

from agent.policy.inputs import GraphInput
from agent.policy.superposition import Gate
from graphs.kinds import OpKind


class MaxPool(nn.Module):
    """`max over neighbours of relu(W h + U e + b)` (Hamilton et al. 2017, section 3.3)."""

    def __init__(self, width: int, edge_columns: int) -> None:
        super().__init__()
        self.neighbour = nn.Linear(width, width)
        self.edge = nn.Linear(edge_columns, width, bias=False)

    def forward(
        self,
        ops: Float[Tensor, "ops width"],
        neighbours: Int[Tensor, " edges"],
        edges: Float[Tensor, "edges columns"],
        offsets: Int[Tensor, " ops_1"],
    ) -> Float[Tensor, "ops width"]:
        """Zero for ops without neighbours."""
        message = torch.relu(self.neighbour(ops)[neighbours] + self.edge(edges))
        return segment(message, offsets, "max")


class SageLayer(nn.Module):
    """One round over producers and consumers, with a residual."""

    def __init__(self, width: int, edge_columns: int, superposition: bool) -> None:
        super().__init__()
        self.norm = GraphNorm(width)
        self.gate = Gate(width, superposition)
        self.from_producers = MaxPool(width, edge_columns)
        self.from_consumers = MaxPool(width, edge_columns)
        self.update = nn.Linear(3 * width, width)

    def forward(
        self,
        ops: Float[Tensor, "ops width"],
        batch: GraphInput,
        context: Float[Tensor, "graphs width"],
    ) -> Float[Tensor, "ops width"]:
        x = self.norm(ops, batch.graph_of_op, batch.graph_count)
        x = self.gate(x, context, batch.graph_of_op)
        above = self.from_producers(x, batch.producers, batch.edges, batch.consumer_offsets)
        below = self.from_consumers(
            x, batch.consumers, batch.edges[batch.outward], batch.producer_offsets
        )
        return ops + torch.relu(self.update(torch.cat([x, above, below], dim=1)))


class GraphEncoder(nn.Module):
    """Embeds every op; the context for the gates comes from the mean of the first embedding."""

    def __init__(
        self,
        op_columns: int,
        edge_columns: int,
        graph_columns: int,
        width: int,
        layers: int,
        superposition: bool,
    ) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(OpKind), width)
        self.features = nn.Sequential(nn.Linear(op_columns, width), nn.ReLU())
        self.mix = nn.Linear(width, width)
        self.context = nn.Sequential(
            nn.Linear(width + graph_columns, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh()
        )
        self.layers = nn.ModuleList(
            SageLayer(width, edge_columns, superposition) for _ in range(layers)
        )

    def forward(
        self, batch: GraphInput
    ) -> tuple[Float[Tensor, "ops width"], Float[Tensor, "graphs width"]]:
        """Embeddings and the context of each graph."""
        ops = self.mix(self.features(batch.ops) + self.kind(batch.kinds))
        pooled = mean_by_graph(ops, batch.graph_of_op, batch.graph_count)
        context = self.context(torch.cat([pooled, batch.graphs], dim=1))
        for layer in self.layers:
            ops = layer(ops, batch, context)
        return ops, context


def mean_by_graph(
    values: Float[Tensor, "ops width"], graph_of: Int[Tensor, " ops"], graphs: int
) -> Float[Tensor, "{graphs} width"]:
    """The mean over each graph's rows."""
    sums = values.new_zeros(graphs, values.shape[1]).index_add(0, graph_of, values)
    return sums / torch.bincount(graph_of, minlength=graphs).clamp(min=1)[:, None]
