"""Somebody else's agent: Stable-Baselines3's PPO places two chains on two devices.

    python docs/examples/sb3_placement.py

prints the step time of a random plan, of the plan that was learned, and of the portfolio.
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO

import envs  # noqa: F401  (registers the ids)
from envs.padded import PaddedEnv
from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.kinds import OpKind


@dataclass(frozen=True)
class Outcome:
    """Step times in seconds."""

    random: float
    learned: float
    portfolio: float


def two_chains(length: int = 3) -> Graph:
    """Two chains of matrix products; nothing passes from one to the other."""
    builder = GraphBuilder("two-chains")
    for chain in ("a", "b"):
        for position in range(length):
            name = f"{chain}{position}"
            builder.add(
                OpRecord(
                    name,
                    "MatMul",
                    OpKind.MATMUL,
                    inputs=[f"{chain}{position - 1}"] if position else [],
                    outputs=[OutputTensor(name, 1 << 20)],
                    flops=1e10,
                )
            )
    return builder.build(ImportReport())


def run(steps: int = 1536, seed: int = 1) -> Outcome:
    """Train for that many plans; compare the most likely plan with the first random one."""
    torch.set_num_threads(1)  # more only get in each other's way on networks this small
    made = gymnasium.make("graphwright/Placement-v0", graph=two_chains(), cluster="2xv100-pcie")
    env = PaddedEnv(made, max_ops=6, max_devices=2)
    env.action_space.seed(seed)
    _, info = env.reset(seed=seed)
    random = env.step(env.action_space.sample())[4]["makespan_seconds"]
    agent = PPO(
        "MultiInputPolicy",
        env,
        n_steps=128,
        batch_size=128,
        n_epochs=8,
        learning_rate=3e-3,
        gamma=1.0,
        seed=seed,
        device="cpu",
    )
    agent.learn(steps)
    observation, _ = env.reset(seed=seed)
    action, _ = agent.predict(observation, deterministic=True)
    learned = env.step(np.asarray(action))[4]["makespan_seconds"]
    return Outcome(random, learned, info["portfolio_seconds"])


if __name__ == "__main__":
    outcome = run()
    print(f"random    {outcome.random * 1e3:.3f} ms")
    print(f"learned   {outcome.learned * 1e3:.3f} ms")
    print(f"portfolio {outcome.portfolio * 1e3:.3f} ms")
