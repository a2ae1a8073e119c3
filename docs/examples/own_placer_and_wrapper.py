"""A placer of your own beside the others, and an environment of your own around ours.

    python docs/examples/own_placer_and_wrapper.py

A placer is a function; `placement.place` takes it where it takes a name. Environments are
Gymnasium's, so that its wrappers work: the one here pays for what the plan sends.
"""

import gymnasium
import numpy as np

import envs  # noqa: F401  (registers the ids)
import placement
import simulator
from graphs.bundled_graphs import load_bundled
from placement import Budget, Candidate, Placed, Problem


def by_halves(problem: Problem, budget: Budget, seed: int, on_progress: object) -> Placed:
    """The first half of the units on one device, the second on the next, and so on."""
    count = problem.cluster.device_count
    devices = problem.unit_of * count // problem.unit_count
    plan = simulator.Plan.of(np.minimum(devices, count - 1))
    return Placed(Candidate(plan, problem.evaluate(plan), "by-halves"))


class PayForTraffic(gymnasium.Wrapper):
    """Takes from the reward what a plan sends, in gigabytes times a price."""

    def __init__(self, env: gymnasium.Env, price: float = 1.0) -> None:
        super().__init__(env)
        self.price = price

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        sent = float(info["trace"]().transfers_between().sum()) / 1e9
        return observation, reward - self.price * sent, terminated, truncated, info


def run() -> dict[str, float]:
    graph, cluster = load_bundled("rnnlm-2"), simulator.preset("2xv100-pcie")
    seconds = {
        name: placement.place(graph, cluster, placer).trace.makespan_seconds
        for name, placer in (("by halves", by_halves), ("portfolio", "portfolio"))
    }
    env = PayForTraffic(
        gymnasium.make("graphwright/Placement-v0", model="rnnlm-2", cluster="2xv100-pcie")
    )
    env.reset(seed=0)
    rewards = {}
    for name, action in (
        ("one device", np.zeros(graph.op_count, np.int64)),
        ("random", env.action_space.sample()),
    ):
        env.reset(seed=0)
        rewards[name] = float(env.step(action)[1])
    for name, value in seconds.items():
        print(f"{name}: {value * 1e3:.1f} ms, simulated")
    for name, value in rewards.items():
        print(f"{name}: reward {value:.3f}")
    return {**seconds, **rewards}


if __name__ == "__main__":
    run()
