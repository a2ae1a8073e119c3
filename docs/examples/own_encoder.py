"""Bring your own encoder: a network of yours on our observations, trained on known optima.

    python docs/examples/own_encoder.py

`collate_graphs` lays observations of several graphs end to end as torch tensors; an encoder reads
them and scores each op on each device. REINFORCE, against the mean of all samples of a graph, does
the rest. Both graphs have a best plan that is known, `info["optimum_seconds"]`.
"""

import gymnasium
import torch
from torch import nn

import envs
from agent.policy.inputs import GraphInput, collate_graphs

IDS = ("graphwright/ForkJoin-v0", "graphwright/ForcedSplit-v0")
SAMPLES = 64


class MeanEncoder(nn.Module):
    """Two rounds of means over producers and over consumers, then a product with devices."""

    def __init__(self, width: int = 32, rounds: int = 2) -> None:
        super().__init__()
        columns = len(envs.OP_COLUMNS) + len(envs.GRAPH_COLUMNS)
        self.ops = nn.Linear(columns, width)
        self.rounds = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(rounds))
        self.devices = nn.Linear(len(envs.DEVICE_COLUMNS), width)
        self.stay = nn.Linear(width, 1)

    def forward(self, seen: GraphInput) -> torch.Tensor:
        """Scores of ops on devices; those of padding are minus infinity."""
        state = self.ops(torch.cat([seen.ops, seen.graphs[seen.graph_of_op]], dim=1)).relu()
        # Edges as pairs of ops: `producers` is sorted by consumer, so that counts tell whose.
        inputs, outputs = seen.consumer_offsets.diff(), seen.producer_offsets.diff()
        consumers = torch.repeat_interleave(torch.arange(len(inputs)), inputs)
        for layer in self.rounds:
            parts = [
                torch.zeros_like(state).index_add(0, to, state[of]) / count[:, None].clamp(min=1)
                for of, to, count in (
                    (seen.producers, consumers, inputs),
                    (consumers, seen.producers, outputs),
                )
            ]
            state = state + layer(torch.cat([state, *parts], dim=1)).relu()
        devices = self.devices(seen.devices)[seen.graph_of_op]
        scores = (devices * state[:, None]).sum(dim=2) / state.shape[1] ** 0.5
        # Alike devices look alike: what tells them apart is where the plan before has an op.
        scores = scores.scatter_add(1, seen.previous[:, :1], self.stay(state))
        return scores.masked_fill(~seen.device_exists[seen.graph_of_op], -torch.inf)


def run(updates: int = 150, seed: int = 0) -> dict[str, float]:
    torch.manual_seed(seed)
    batches = [
        gymnasium.make_vec(
            name, num_envs=SAMPLES, vectorization_mode="vector_entry_point",
            start="single", reward="log-speedup", final_observations=False,
        )
        for name in IDS
    ]
    optima = [batch.reset(seed=seed)[1]["optimum_seconds"][0] for batch in batches]
    # A batch's observations are `Observation`s too; at the start all of a batch are alike.
    seen = collate_graphs([batch.observations[0] for batch in batches], segment_ops=128)
    encoder = MeanEncoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.01)
    rewards, best = [], [float("inf")] * len(IDS)
    for _ in range(updates):
        chances = torch.distributions.Categorical(logits=encoder(seen))
        actions = chances.sample((SAMPLES,))
        logs = chances.log_prob(actions)
        loss, total = torch.zeros(()), 0.0
        for number, batch in enumerate(batches):
            own = seen.graph_of_op == number
            _, reward, *_, infos = batch.step(actions[:, own].numpy())
            final = infos["final_info"]
            fits = final["makespan_seconds"][final["feasible"]]
            best[number] = min([best[number], *fits])
            gain = (reward - reward.mean()) / (reward.std() + 1e-6)
            gain = torch.tensor(gain, dtype=torch.float32)
            loss = loss - (gain * logs[:, own].sum(dim=1)).mean()
            total += float(reward.mean()) / len(IDS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(total)
    for name, seconds, optimum in zip(IDS, best, optima):
        print(f"{name}: best plan {seconds:.1f} s, optimum {optimum:.1f} s")
    print(f"mean reward: {rewards[0]:.2f} at first, {rewards[-1]:.2f} at last")
    return {"first": rewards[0], "last": rewards[-1],
            "over_optimum": max(float(b / o) for b, o in zip(best, optima))}


if __name__ == "__main__":
    run()
