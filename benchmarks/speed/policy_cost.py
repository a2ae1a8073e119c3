"""What the policy costs: seconds and memory by graph size, and 80,000 ops placed zero-shot.

    python benchmarks/speed/policy_cost.py                     # measures all, writes the table
    python benchmarks/speed/policy_cost.py --policy CHECKPOINT # the same with a trained policy
    python benchmarks/speed/policy_cost.py --table             # only writes the table

Each size runs in a process of its own, so that peak memory is that of one size. Rows go to
`results/policy_cost.jsonl`; what the file has is not measured again.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import append_row, commit, read_rows

RESULTS = Path(__file__).parents[1] / "results" / "policy_cost.jsonl"
SIZES = ("transformer:7:1000", "transformer:7:10000", "gnmt-8-80k")
WHOLE = "gnmt-8-80k"
CLUSTER = "4xv100-pcie"
SAMPLES = 64
READING = "read the graph (not counted)"
LIMIT_SECONDS, LIMIT_GIB = 20.0, 6.0


def main() -> None:
    """Measure what is missing in fresh processes, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="", help="a checkpoint; else an untrained policy")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "GRAPH"), help="one row, printed")
    arguments = parser.parse_args()
    if arguments.measure:
        what, graph = arguments.measure
        measure = {"passes": passes, "whole": whole}[what]
        print(json.dumps(measure(graph, arguments.policy, arguments.threads)))
        return
    rows = read()
    done = {(row["what"], row["graph"], row["policy"], row["threads"]) for row in rows}
    jobs = [("passes", graph) for graph in SIZES] + [("whole", WHOLE)]
    for what, graph in [] if arguments.table else jobs:
        if (what, graph, arguments.policy, arguments.threads) in done:
            continue
        command = [sys.executable, __file__, "--measure", what, graph]
        command += ["--policy", arguments.policy, "--threads", str(arguments.threads)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        row = json.loads(printed.splitlines()[-1])
        row |= {"what": what, "policy": arguments.policy, "threads": arguments.threads}
        row |= {"command": " ".join(sys.argv), "commit": commit()}
        rows.append(row)
        append_row(RESULTS, row)
        print(row, flush=True)
    text = table(rows)
    RESULTS.with_suffix(".md").write_text(text)
    print(text)


def read() -> list[dict[str, Any]]:
    """Rows so far."""
    return read_rows(RESULTS)


def policy_of(path: str, threads: int) -> Any:
    """A checkpoint, or an untrained policy of the default configuration."""
    import torch

    from agent.config import AgentConfig
    from agent.policy.network import Policy
    from agent.runs.checkpoint import Checkpoint, load_checkpoint

    torch.set_num_threads(threads)
    if path:
        return load_checkpoint(path)
    torch.manual_seed(0)
    config = AgentConfig()
    return Checkpoint(Policy(config.policy), config, {})


def passes(graph: str, path: str, threads: int) -> dict[str, Any]:
    """CPU seconds of forward alone, and of forward with backward: the least of three."""
    import torch

    from agent.policy.inputs import collate
    from agent.policy.state import begin
    from agent.policy.view import group_instance
    from envs.episodes import Prepared
    from envs.instance import Instance
    from placement.placer import Budget, silent
    from placement.placers.registry import get_placer
    from placement.placers.warm_up import warm_up
    from placement.suites import Headroom, Pair

    checkpoint = policy_of(path, threads)
    policy, config = checkpoint.policy, checkpoint.config
    warm_up()
    problem = Pair(graph, CLUSTER, Headroom.SLOW_LINKS).problem()
    # Any plan will do to look at.
    plan = get_placer("metis")(problem, Budget(), 0, silent).best.plan
    prepared = Prepared(Instance(graph, problem))
    subject = group_instance(prepared, config.episode.group_sizes, 0)
    state = begin(subject, config.rules, plan)
    batch = collate([state.view(config.policy.reads_trace)], config.policy.segment_ops)
    before_mib = peak_mib()
    forward, both = [], []
    for _ in range(3):
        begun = time.process_time()
        with torch.no_grad():
            policy(batch)
        forward.append(time.process_time() - begun)
    forward_mib = peak_mib()
    for _ in range(3):
        begun = time.process_time()
        scores = policy(batch)
        total = sum(
            values.masked_fill(torch.isinf(values), 0.0).sum() for values in scores.values()
        )
        torch.autograd.backward(total)
        both.append(time.process_time() - begun)
    ops = problem.graph.op_count
    return {
        "graph": graph,
        "ops": ops,
        "cluster": CLUSTER,
        "digest": problem.graph.digest,
        "groups": subject.groups.group_count,
        "forward_seconds": min(forward),
        "both_seconds": min(both),
        "before_mib": before_mib,
        "forward_mib": forward_mib,
        "both_mib": peak_mib(),
        "seed": 0,
    }


def whole(graph: str, path: str, threads: int) -> dict[str, Any]:
    """Everything from a graph in memory to a decision, part by part."""
    from dataclasses import replace

    import numpy as np
    import torch

    from agent.learning.rollout import sample
    from agent.policy.inputs import collate
    from agent.policy.state import begin
    from agent.policy.view import group_instance
    from envs.episodes import Prepared
    from envs.instance import Instance
    from placement.placers.warm_up import warm_up
    from placement.suites import Headroom, Pair

    checkpoint = policy_of(path, threads)
    policy, config = checkpoint.policy, checkpoint.config
    warm_up()
    parts: dict[str, tuple[float, float]] = {}
    mark = [(time.perf_counter(), time.process_time())]

    def done(part: str) -> None:
        now = (time.perf_counter(), time.process_time())
        parts[part] = (now[0] - mark[0][0], now[1] - mark[0][1])
        mark[0] = now

    pair = Pair(graph, CLUSTER, Headroom.SLOW_LINKS)
    pair.graph()
    done(READING)
    problem = pair.problem()
    _ = problem.simulator.program, problem.unit_allowed, problem.seconds
    done("problem")
    instance = Instance(graph, problem)
    start = instance.portfolio
    done("portfolio")
    prepared = Prepared(instance)
    _ = prepared.static
    done("static features")
    subject = group_instance(prepared, config.episode.group_sizes, 0)
    done("groups")
    state = begin(subject, config.rules)
    view = state.view(config.policy.reads_trace)
    done("trace and features of it")
    batch = collate([view], config.policy.segment_ops)
    done("tensors")
    with torch.no_grad():
        scores = policy(batch)
    done("forward")
    rollout = sample(
        state, scores, batch, 0, replace(config.sample, samples=SAMPLES),
        config.reward, np.random.default_rng(0), config.episode.whole,
    )  # fmt: skip
    done(f"draw and simulate {SAMPLES} plans")
    best = rollout.best(config.sample.merged)
    done("decision, with merged samples")
    return {
        "graph": graph,
        "ops": problem.graph.op_count,
        "cluster": CLUSTER,
        "digest": problem.graph.digest,
        "groups": subject.groups.group_count,
        "parts": parts,
        "seconds": sum(each[0] for part, each in parts.items() if part != READING),
        "cpu_seconds": sum(each[1] for part, each in parts.items() if part != READING),
        "both_mib": peak_mib(),
        "portfolio_seconds": start.evaluation.makespan_seconds,
        "makespan_seconds": min(
            best.evaluation.makespan_seconds, start.evaluation.makespan_seconds
        ),
        "seed": 0,
    }


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    sized = [row for row in rows if row["what"] == "passes"]
    ended = [row for row in rows if row["what"] == "whole"]
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    commands = ", ".join(f"`python {text}`" for text in sorted({row["command"] for row in rows}))
    lines = [
        "# What the policy costs",
        "",
        f"On {CLUSTER}. Commands: {commands}; commits {commits}. Passes in CPU seconds, torch on "
        "as many threads as said; plans are simulated on all cores; peak memory is the process's, "
        "Python, torch and the graph included.",
        "",
        "## Forward, and forward with backward",
        "",
        "| graph | ops | groups | policy | threads | forward | us per op | with backward "
        "| us per op | peak before | after forward | after backward |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sized:
        forward, both, ops = row["forward_seconds"], row["both_seconds"], row["ops"]
        lines.append(
            f"| {row['graph']} | {ops:,} | {row['groups']:,} | {row['policy'] or 'untrained'} | "
            f"{row['threads']} | {forward:.3f} s | {forward / ops * 1e6:.0f} | {both:.3f} s | "
            f"{both / ops * 1e6:.0f} | {row['before_mib']:,.0f} MiB "
            f"| {row['forward_mib']:,.0f} MiB | {row['both_mib']:,.0f} MiB |"
        )
    for row in ended:
        # An idle machine takes at most the CPU seconds; wall-clock tells of its other work too.
        within = row["cpu_seconds"] < LIMIT_SECONDS and row["both_mib"] < LIMIT_GIB * 1024
        lines += [
            "",
            f"## {row['graph']}: {row['ops']:,} ops placed zero-shot",
            "",
            f"{row['cpu_seconds']:.1f} CPU seconds from the graph in memory to the decision "
            f"({row['seconds']:.1f} s by the clock, other work on the machine included), "
            f"{row['both_mib'] / 1024:.2f} GiB at most, {row['threads']} threads, "
            f"{row['policy'] or 'untrained'} policy: "
            f"{'within' if within else 'NOT within'} {LIMIT_SECONDS:g} s and {LIMIT_GIB:g} GiB.",
            "",
            "| part | seconds | CPU seconds |",
            "|---|---:|---:|",
            *(f"| {part} | {wall:.2f} | {cpu:.2f} |" for part, (wall, cpu) in row["parts"].items()),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
