"""The small network's lessons: what came of the moves that searches tried, by the million.

Each simulation of a search is a label. The network guides the searches that it learns from, so that
it sees the plans and the moves it will meet. Scores are the logarithm of the odds that a move
improves the plan, improvements weighted by how much they bring.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch.nn import functional

from agent.learning.config import MoveConfig
from agent.learning.gradients import clip_gradients, sum_over_workers
from agent.learning.ranking import ranking_area
from agent.policy.move_network import MoveNetwork
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.fusing.fused_problem import fuse_problem
from placement.annealing.guided_anneal import Guidance, GuidedAnnealer, Harvest
from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.annealing.move_features import MOVE_COLUMNS
from placement.annealing.move_scorer import MoveScorer
from placement.problem import Problem
from simulator.plan import Plan

#: Changes of the logarithm of step time above this are no improvement.
_LEAST_GAIN = 1e-6
_TYPICAL_GAIN = 3e-4
_LIGHTEST, _HEAVIEST = 0.01, 30.0
#: In how many steps a search cools down.
_STEPS = 50
#: Start temperatures of searches that are learned from, as shares of the guide's: drawn evenly on a
#: logarithmic scale between these.
_HEATS = (0.05, 1.0)
_CANDIDATES = (4, 16, 64)


@dataclass(frozen=True, eq=False)
class Lessons:
    """Moves that were tried: what was known beforehand, and the change in log step time."""

    features: Float16[np.ndarray, "moves columns"]
    changes: Float32[np.ndarray, " moves"]

    @staticmethod
    def none() -> "Lessons":
        return Lessons(np.zeros((0, len(MOVE_COLUMNS)), np.float16), np.zeros(0, np.float32))

    def and_then(self, later: "Lessons", at_most: int) -> "Lessons":
        """Both, but for the oldest above the limit."""
        return Lessons(
            np.concatenate([self.features, later.features])[-at_most:],
            np.concatenate([self.changes, later.changes])[-at_most:],
        )

    @property
    def improving(self) -> np.ndarray:
        return self.changes < -_LEAST_GAIN


@dataclass(frozen=True)
class SearchDraw:
    """What is drawn of a search before it begins."""

    candidates: int
    seed: int
    moves: int
    """Tried in each step."""
    heat: float
    """Start temperature, as a share of the guide's."""

    @property
    def evaluations(self) -> int:
        """About how many plans the search scores."""
        return self.moves * _STEPS


def draw_search(config: MoveConfig, rng: np.random.Generator) -> SearchDraw:
    """Length and heat, evenly on logarithmic scales."""
    candidates, seed = int(rng.choice(_CANDIDATES)), int(rng.integers(1 << 30))
    lowest, highest = np.log(config.least_evaluations), np.log(config.most_evaluations)
    moves = max(int(np.exp(rng.uniform(lowest, highest))) // _STEPS, 1)
    return SearchDraw(candidates, seed, moves, float(np.exp(rng.uniform(*np.log(_HEATS)))))


def search_for_lessons(
    scorer: MoveScorer,
    problem: Problem,
    hierarchy: Hierarchy,
    start: Plan,
    guidance: Guidance,
    start_temperature: float,
    config: MoveConfig,
    rng: np.random.Generator,
) -> tuple[Lessons, Chain]:
    """A search from a plan to the end, and what it teaches; length and heat are drawn.

    Args:
        scorer: the network that guides it, in arrays (`MoveNetwork.as_scorer`).
    """
    drawn = draw_search(config, rng)
    annealer = Annealer(problem, hierarchy)
    guided = GuidedAnnealer(
        annealer,
        scorer,
        Guidance(drawn.candidates, guidance.sharpness, config.random_share, guidance.read_after),
    )
    chain = annealer.start(start.devices, start.ranks, drawn.seed)
    moves, temperature = drawn.moves, start_temperature * drawn.heat
    chance = min(1.0, config.kept / (moves * _STEPS))
    features, changes = [], []
    for step in range(_STEPS):
        heat = 1 - step / _STEPS
        harvest = Harvest(
            np.zeros((moves, len(MOVE_COLUMNS)), np.float32), np.zeros(moves, np.float32)
        )
        before = chain.evaluations
        chain = guided.advance(chain, moves, temperature * heat, heat, harvest)
        kept = np.flatnonzero(rng.random(chain.evaluations - before) < chance)
        features.append(harvest.features[kept].astype(np.float16))
        changes.append(harvest.changes[kept])
        chain = guided.reprioritise(chain)
    return Lessons(np.concatenate(features), np.concatenate(changes)), chain


def make_kernel_problem(
    problem: Problem, start: Plan, seed: int
) -> tuple[Problem, Hierarchy, Plan]:
    """The same with kernels in place of ops: what the plan leaves together is fused."""
    kernels = fuse_problem(problem, start).kernels
    return kernels, build_hierarchy(kernels, seed), kernels.known_plans[0]


def learn_moves(
    network: MoveNetwork,
    optimizer: torch.optim.Optimizer,
    batches: list[Lessons],
    config: MoveConfig,
    device: str = "cpu",
    moves_in_all: int | None = None,
) -> dict[str, float]:
    """One step on some lessons together; `moves_in_all` counts those of all workers."""
    features = np.concatenate([lessons.features for lessons in batches])
    changes = np.concatenate([lessons.changes for lessons in batches])
    better = changes < -_LEAST_GAIN
    gains = np.clip(np.maximum(-changes, 0.0) / _TYPICAL_GAIN, _LIGHTEST, _HEAVIEST)
    weights = np.where(better, gains**config.gain_power, 1.0).astype(np.float32)
    logits = network(torch.from_numpy(features.astype(np.float32)).to(device))
    loss = functional.binary_cross_entropy_with_logits(
        logits,
        torch.from_numpy(better.astype(np.float32)).to(device),
        weight=torch.from_numpy(weights).to(device),
        reduction="sum",
    ) / (moves_in_all or max(len(changes), 1))
    torch.autograd.backward(loss)
    total = sum_over_workers(network, loss.detach()[None])
    clip_gradients(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # the large network's norm is its own
    area = ranking_area(logits.detach().double().cpu().numpy(), better)
    return {"move_loss": float(total[0]), "move_area": area if np.isfinite(area) else 0.5}


def draw_lessons(lessons: Lessons, count: int, rng: np.random.Generator) -> Lessons:
    """Drawn with replacement."""
    if not len(lessons.changes):
        return lessons
    drawn = rng.integers(len(lessons.changes), size=count)
    return Lessons(lessons.features[drawn], lessons.changes[drawn])
