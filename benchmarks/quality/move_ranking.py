"""How well policies tell moves that improve a plan from those that do not.

    python benchmarks/quality/move_ranking.py out/ablations/* agent/pretrained

A figure that tells policies apart long before step times do: the chance that a move that improves
is scored above one that does not (AUC), on pairs of the suite `validation`, at plans that search
meets. Policies are folders named `VARIANT-SEED-SECONDS`, as `ablations.py` makes them.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from agent.config import AgentConfig
from agent.learning.outcomes import Outcomes, anneal_from, try_moves
from agent.learning.ranking import ranking_area
from agent.policy.inputs import collate
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import group_instance
from agent.runs.checkpoint import load_checkpoint
from envs.episodes import episodes_from
from envs.tasks import Task
from placement.suites import get_suite

RESULTS = Path(__file__).parents[1] / "results" / "move_ranking.md"
LARGEST = 1500


def main() -> None:
    """Measure all policies that are named and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policies", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    states = validation_states(arguments.pairs)
    tried = [try_moves(s, True, AgentConfig().outcomes, np.random.default_rng(7)) for s in states]
    areas: dict[str, list[float]] = defaultdict(list)
    for path in arguments.policies:
        checkpoint = load_checkpoint(path)
        if not checkpoint.config.guides_search:
            continue
        name = path.name.rsplit("-", 2)[0].replace("-", " ")
        areas[name].append(area(checkpoint.policy, checkpoint.config, states, tried))
    for seed in range(3):
        torch.manual_seed(1_000_003 + seed)
        config = AgentConfig()
        areas["no pretraining"].append(area(Policy(config.policy), config, states, tried))
    text = table(areas, len(states), sum(len(item.gains) for item in tried))
    arguments.out.write_text(text)
    print(text)


def validation_states(count: int) -> list[EpisodeState]:
    """The portfolio's plan of each pair, and one that search makes of it."""
    pairs = [
        pair
        for pair in get_suite("validation").pairs
        if int(pair.graph_ref.rpartition(":")[2]) <= LARGEST and pair.headroom != "none"
    ]
    chosen = [pairs[int(index * len(pairs) / count)] for index in range(min(count, len(pairs)))]
    episodes = episodes_from(pairs=chosen)
    states = []
    config = AgentConfig()
    for index in range(len(chosen)):
        prepared = episodes.at(index)
        subject = group_instance(prepared, config.episode.group_sizes, 0)
        first = begin(subject, config.rules)
        states += [first, anneal_from(first, config.outcomes, np.random.default_rng(index))]
    return states


def area(
    policy: Policy, config: AgentConfig, states: list[EpisodeState], tried: list[Outcomes]
) -> float:
    """The mean over states at which some moves improve and some do not."""
    found = []
    for state, outcomes in zip(states, tried, strict=True):
        view = state.view(config.policy.reads_trace)
        with torch.no_grad():
            scores = policy(collate([view], config.policy.segment_ops))[Task.PLACEMENT]
        mine = scores[torch.from_numpy(outcomes.groups).long(),
                      torch.from_numpy(outcomes.devices).long()]  # fmt: skip
        better = outcomes.gains > config.outcomes.least_gain
        found.append(ranking_area(mine.double().numpy(), better))
    return float(np.nanmean(found))


def table(areas: dict[str, list[float]], states: int, moves: int) -> str:
    """Markdown: a row per variant, the best first."""
    lines = [
        "# How well policies tell moves that improve from those that do not",
        "",
        f"AUC over {moves:,} moves at {states} plans of the suite `validation` (graphs of at most "
        f"{LARGEST:,} ops); 0.5 is chance. By `python benchmarks/quality/move_ranking.py "
        "out/ablations/* agent/pretrained` after `benchmarks/quality/ablations.py`.",
        "",
        "| policy | mean | of seeds |",
        "|---|---:|---|",
    ]
    for name, values in sorted(areas.items(), key=lambda item: -np.mean(item[1])):
        each = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {np.mean(values):.3f} | {each} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
