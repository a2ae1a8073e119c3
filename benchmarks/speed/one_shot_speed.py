"""What the one-shot policy costs: plans per CPU second, the portfolio beside it, 80,000 ops.

    python benchmarks/speed/one_shot_speed.py           # the shipped policy
    python benchmarks/speed/one_shot_speed.py --policy RUN

Every row is measured in a process of its own, on one thread, so that peak memory is its own; times
are CPU seconds of that process. Writes `results/one_shot_speed.md`.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.rows import commit

RESULT = Path(__file__).parents[1] / "results" / "one_shot_speed.md"
GRAPHS = ("transformer:7:1000", "rnnlm:7:1000", "layered:7:4000", "gnmt-8-35k", "gnmt-8-80k")
CLUSTER = "4xv100-pcie"
ROUNDS = 10


def main() -> None:
    """Measure all in fresh processes, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default=None, help="a checkpoint or a run's folder")
    parser.add_argument("--measure", metavar="GRAPH", help="one row, printed")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.policy)))
        return
    rows = []
    for graph in GRAPHS:
        command = [sys.executable, __file__, "--measure", graph]
        command += ["--policy", given.policy] if given.policy else []
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append(json.loads(printed.splitlines()[-1]))
        print(rows[-1], flush=True)
    RESULT.write_text(table(rows), encoding="utf-8")


def measure(graph: str, policy_path: str | None) -> dict[str, Any]:
    """Seconds of each part on one graph, and plans per CPU second of training."""
    import numpy as np
    import torch

    from agent.decoding.checkpoint import load_one_shot
    from agent.decoding.config import DrawConfig, LearnConfig
    from agent.decoding.learning import learn_from_plans
    from agent.decoding.placer import policy_at
    from agent.decoding.sampling import draw_plans, look_at
    from agent.decoding.subject import make_subject
    from graphs.catalogue import resolve
    from placement.placer import Budget, silent
    from placement.placers.portfolio import portfolio
    from placement.problem import Problem
    from simulator.cluster_file import load_cluster
    from simulator.threads import set_threads

    torch.set_num_threads(1)
    set_threads(1)
    policy = load_one_shot(policy_at(Path(policy_path) if policy_path else None)).policy
    small = Problem(resolve("rnnlm:8:200"), load_cluster(CLUSTER))
    warm = make_subject("warm", small, 0)
    draw_plans(look_at(policy, warm), warm, DrawConfig(), 0)
    portfolio(small, Budget(1e9), 0, silent)

    problem = Problem(resolve(graph), load_cluster(CLUSTER))
    _ = problem.bounds, problem.simulator.program, problem.unit_allowed
    begun = process_time()
    subject = make_subject(graph, problem, 0)
    look = look_at(policy, subject)
    looked = process_time()
    draw_plans(look, subject, DrawConfig(plans=16, first=16), 0)
    sixteen = process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    draw_plans(look, subject, DrawConfig(), 0)
    drawn = process_time()
    row = {
        "graph": graph,
        "ops": problem.graph.op_count,
        "choices": subject.decoder.choices.count,
        "look_seconds": looked - begun,
        "sixteen_seconds": sixteen - looked,
        "plans_seconds": drawn - sixteen,
        "peak_gib": peak,
    }
    before = process_time()
    portfolio(problem, Budget(1e9), 0, silent)
    row["portfolio_seconds"] = process_time() - before
    if problem.graph.op_count < 10_000:
        config = LearnConfig(graphs=1)
        optimizer = torch.optim.Adam(policy.parameters(), lr=1e-5)
        learn_from_plans(policy, optimizer, [subject], [np.random.default_rng(0)], config)
        before = process_time()
        for number in range(ROUNDS):
            rng = np.random.default_rng(number)
            learn_from_plans(policy, optimizer, [subject], [rng], config)
        row["plans_per_second"] = ROUNDS * config.plans / (process_time() - before)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# What the one-shot policy costs",
        "",
        f"`python benchmarks/speed/one_shot_speed.py`, {commit()}, {CLUSTER}, one thread, CPU",
        "seconds. The look is laying out choices and one pass of the network; plans are drawn and",
        "simulated. Training: plans drawn, simulated and learned from.",
        "",
        "| graph | ops | choices | look | 16 plans | 64 plans | portfolio | peak after 16 "
        "| training, plans per CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate = row.get("plans_per_second")
        lines.append(
            f"| {row['graph']} | {row['ops']:,} | {row['choices']:,} "
            f"| {row['look_seconds']:.2f} s | {row['sixteen_seconds']:.2f} s "
            f"| {row['plans_seconds']:.2f} s "
            f"| {row['portfolio_seconds']:.2f} s | {row['peak_gib']:.1f} GiB "
            f"| {'' if rate is None else f'{rate:,.0f}'} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
