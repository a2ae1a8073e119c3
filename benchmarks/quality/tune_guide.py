"""Guided search beside uninformed search on validation graphs, for one setting of the guide.

    python benchmarks/quality/tune_guide.py --seconds 8 --seeds 2
    python benchmarks/quality/tune_guide.py --seconds 8 --set candidates=16 --set starts=1
    python benchmarks/quality/tune_guide.py --policy out/mine --table

Both begin at the portfolio's plan and get the same CPU seconds on top of it. Rows are appended to
`results/tune_guide.jsonl`, and what the file has is not measured again; the table gives geometric
means of step times over search's, per setting, with a 95% interval over pairs. Held-out suites have
no part in this.
"""

import argparse
import math
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.config import AgentConfig
from agent.evaluation.contestants import control, policy_digest
from agent.placing.guided_search import guided_search
from agent.placing.registry import load_policy
from agent.policy.network import Policy
from agent.policy.state import begin
from agent.policy.view import GroupedInstance, group_instance
from benchmarks.rows import append_row, commit, read_rows
from envs.episodes import episodes_from
from placement.annealing.anneal import Annealer
from placement.placer import Budget
from placement.placers.search import DEFAULT as SEARCH
from placement.placers.warm_up import warm_up
from placement.suites import Pair, get_suite

RESULTS = Path(__file__).parents[1] / "results" / "tune_guide.jsonl"
#: Every family of the validation suite, of all kinds of clusters with something to win: numbers in
#: the suite.
PAIRS = (0, 3, 5, 9, 14, 20, 21, 25, 32, 39, 40, 45, 54, 58, 64, 70)
_STEPS = 100
SEARCH_NAME, UNTRAINED_NAME = "search", "untrained"


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path, help="checkpoint or run; the shipped one")
    parser.add_argument("--seconds", type=float, default=8.0, help="CPU seconds of each search")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="field=value of GuideConfig")
    parser.add_argument("--untrained", action="store_true", help="a network without training")
    parser.add_argument("--pairs", type=int, nargs="*", default=list(PAIRS))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_rows(RESULTS)
    if not given.table:
        rows += measured(given, rows)
    print(table(rows))


def measured(given: argparse.Namespace, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that were missing, written as they come."""
    warm_up()
    checkpoint = load_policy(given.policy)
    policy, config = checkpoint.policy, with_settings(checkpoint.config, given.set)
    name = f"policy {policy_digest(policy, checkpoint.config)[:6]} {' '.join(given.set)}".strip()
    if given.untrained:
        policy, name = (
            control(config, 0, checkpoint).policy,
            f"{UNTRAINED_NAME} {' '.join(given.set)}",
        )
    done = {(row["name"], row["pair"], row["seed"], row["seconds"]) for row in rows}
    suite, found = get_suite("validation", ()), []
    for index in given.pairs:
        pair = suite.pairs[index]
        wanted = [
            (arm, seed)
            for seed in range(given.seeds)
            for arm in (SEARCH_NAME, name.strip())
            if (arm, index, seed, given.seconds) not in done
        ]
        if not wanted:
            continue
        subject = subject_of(pair, config)
        for arm, seed in wanted:
            energy, evaluations = (
                uninformed(subject, given.seconds, seed)
                if arm == SEARCH_NAME
                else guided(policy, subject, config, given.seconds, seed)
            )
            row = {
                "name": arm,
                "pair": index,
                "graph": pair.graph_ref,
                "cluster": pair.cluster_ref,
                "seed": seed,
                "seconds": given.seconds,
                "digest": subject.instance.problem.graph.digest,
                "command": " ".join(sys.argv),
                "commit": commit(),
                "ratio": math.exp(energy) / subject.instance.reference_seconds,
                "evaluations": evaluations,
            }
            found.append(row)
            append_row(RESULTS, row)
    return found


def with_settings(config: AgentConfig, settings: list[str]) -> AgentConfig:
    """The configuration with fields of its guide replaced."""
    values: dict[str, Any] = {}
    for text in settings:
        field, _, value = text.partition("=")
        values[field] = type(getattr(config.guide, field))(float(value))
    return replace(config, guide=replace(config.guide, **values))


def subject_of(pair: Pair, config: AgentConfig) -> GroupedInstance:
    """The pair's instance with its groups; its portfolio is worked out before any clock runs."""
    prepared = episodes_from(pairs=[pair], seed=0).at(0)
    assert prepared.instance.portfolio.evaluation.feasible
    return group_instance(prepared, config.episode.group_sizes, 0)


def guided(
    policy: Policy, subject: GroupedInstance, config: AgentConfig, seconds: float, seed: int
) -> tuple[float, int]:
    """Logarithm of the best step time, and how many plans were simulated."""
    state = begin(subject, config.rules, "portfolio")
    found = guided_search(policy, state, Budget(seconds), seed, config, lambda _: None)
    return found.chain.best_energy, found.evaluations


def uninformed(subject: GroupedInstance, seconds: float, seed: int) -> tuple[float, int]:
    """The same of the placer `search`, from the portfolio's plan on."""
    problem, plan = subject.instance.problem, subject.instance.portfolio.plan
    annealer = Annealer(problem, subject.groups.hierarchy, SEARCH.neighbour_share)
    chain = annealer.start(plan.devices, plan.ranks, seed)
    budget, moves = Budget(seconds), 20
    while not budget.is_spent:
        before = budget.spent_seconds
        heat = SEARCH.start_temperature * (1 - before / seconds)
        chain = annealer.reprioritise(annealer.advance(chain, moves, heat))
        took = max(budget.spent_seconds - before, 1e-4)
        moves = int(np.clip(moves * seconds / _STEPS / took, 1, 4 * moves))
    return chain.best_energy, chain.evaluations


def table(rows: list[dict[str, Any]]) -> str:
    """A line per setting and number of seconds."""
    logs: dict[tuple[float, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        logs[row["seconds"], row["name"]][row["pair"]].append(math.log(row["ratio"]))
    lines = [
        "| CPU s | setting | pairs | over the portfolio | over search |",
        "|---|---|---|---|---|",
    ]
    for (seconds, name), mine in sorted(logs.items()):
        base = logs.get((seconds, SEARCH_NAME), {})
        shared = [pair for pair in mine if pair in base]
        if not shared:
            continue
        ratio = math.exp(np.mean([np.mean(mine[pair]) for pair in shared]))
        against = np.array([np.mean(mine[pair]) - np.mean(base[pair]) for pair in shared])
        spread = (
            1.96 * against.std(ddof=1) / math.sqrt(len(shared)) if len(shared) > 1 else math.inf
        )
        lines.append(
            f"| {seconds:g} | {name} | {len(shared)} | {ratio:.4f} | "
            f"{math.exp(against.mean()):.4f} ± {spread:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
