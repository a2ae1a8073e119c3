"""GDP (Zhou et al., "GDP: Generalized Device Placement for Dataflow Graphs", arXiv 1910.01578).

A graph network and segment-recurrent attention decide for every op at once, with one output per
device number; trained from scratch with PPO on the graph at hand. Built from this project's own
network, without what GO and this project added: no gates, no tasks after placement, no device
embeddings, no plan or trace to look at, no heuristic to begin at.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from agent.baselines.tensorflow_default import first_accelerator
from agent.config import AgentConfig, EpisodeConfig
from agent.learning.config import PpoConfig, SampleConfig
from agent.learning.improving import draw_pass, learn
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.policy.state import begin
from agent.policy.view import group_instance
from envs.episodes import Prepared
from envs.instance import Instance
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.problem import Problem
from simulator.plan import Plan


def gdp_config() -> AgentConfig:
    """Switches of the network, and an update for whole decisions."""
    return AgentConfig(
        PolicyConfig(device_embeddings=False, superposition=False, cross_task=False),
        PpoConfig(lr=3e-3, epochs=2, entropy=1.0, entropy_end=0.1),
        SampleConfig(samples=32),
        EpisodeConfig(steps=1, whole=True, from_scratch=True, group_sizes=()),
    )


@dataclass(frozen=True)
class GdpPlacer:
    """A `Placer`: the best plan seen while training on the graph, whatever heuristics know."""

    config: AgentConfig = field(default_factory=gdp_config)

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Train until the budget is spent, at least one update."""
        # Rewards are relative to one device, so that no heuristic runs.
        mark = Plan.of(first_accelerator(problem))
        instance = Instance(problem.graph.name, problem, seed=seed, given_mark=mark)
        devices = problem.cluster.device_count
        network = replace(self.config.policy, max_devices=devices)
        config = replace(self.config, policy=network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = Policy(config.policy)
        optimizer = torch.optim.Adam(policy.parameters(), lr=config.ppo.lr)
        subject = group_instance(Prepared(instance), config.episode.group_sizes, seed)
        first = begin(subject, config.rules)
        best: Candidate | None = None
        progress: list[tuple[float, float]] = []
        number = evaluations = 0
        while best is None or not budget.is_spent:
            rng = np.random.default_rng([seed, number])
            passed = draw_pass(policy, config, [first], [rng])
            evaluations += config.sample.samples
            candidate = passed.best[0].candidate(f"gdp:{number + 1}")
            if best is None or candidate.rank_key < best.rank_key:
                best = candidate
                progress.append((budget.spent_seconds, best.evaluation.makespan_seconds))
            share = min(budget.spent_seconds / budget.cpu_seconds, 1.0)
            learn(policy, optimizer, config, passed, share)
            on_progress(share)
            number += 1
        return Placed(best, (best,), tuple(progress), evaluations)
