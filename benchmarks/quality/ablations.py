"""What each part of the policy brings: small policies trained without it, at equal CPU time.

    python benchmarks/quality/ablations.py --train-seconds 600 --budget 5
    python benchmarks/quality/ablations.py --table   # only writes the table

Every variant is trained on the suite `train` for the same CPU seconds with each of three seeds and
then places pairs of the suite `validation`, zero-shot, with the same CPU seconds each. Rows go to
`results/ablations.jsonl`, policies to `out/ablations`; what is there is not done again.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agent.config import AgentConfig, TrainConfig
from agent.evaluation.contestants import Attempt, Contestant, policy_digest
from agent.evaluation.ratios import times
from agent.evaluation.runs import EvaluationRow, Origin, prepare_problem, run
from agent.placing.policy_placer import PolicyPlacer
from agent.policy.network import Policy
from agent.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agent.training.loop import Pretraining
from agent.training.workers import Workers
from benchmarks.rows import append_row, commit, read_rows
from envs.tasks import Task
from placement.placer import silent
from placement.placers.registry import get_placer
from placement.placers.warm_up import warm_up
from placement.suites import Pair, get_suite
from placement.suites.ratios import MeanRatio, holm, ratio

RESULTS = Path(__file__).parents[1] / "results" / "ablations.jsonl"
POLICIES = Path(__file__).parents[2] / "out" / "ablations"
SEEDS = (0, 1, 2)
FULL, UNTRAINED, SEARCH, JOINT = "full", "no pretraining", "search", "three tasks"


def _policy(**changes: Any) -> Callable[[AgentConfig], AgentConfig]:
    return lambda config: replace(config, policy=replace(config.policy, **changes))


def _one_pass(config: AgentConfig) -> AgentConfig:
    """The large network learns from the first plan of an episode alone."""
    return replace(config, episode=replace(config.episode, steps=1))


def _whole(config: AgentConfig) -> AgentConfig:
    return replace(config, episode=replace(config.episode, whole=True))


VARIANTS: dict[str, Callable[[AgentConfig], AgentConfig]] = {
    FULL: lambda config: config,
    UNTRAINED: lambda config: config,
    "no sequential attention": _policy(sequential_attention=False),
    "no superposition": _policy(superposition=False),
    "no trace": _policy(reads_trace=False),
    "one pass": _one_pass,
    "whole decisions": _whole,
    JOINT: _policy(tasks=tuple(Task)),
    "three tasks, not recurrent": _policy(tasks=tuple(Task), cross_task=False),
}

#: What a variant is compared with; the full policy unless named here.
AGAINST = {"three tasks, not recurrent": JOINT}


def main() -> None:
    """Train and measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-seconds", type=float, default=600.0)
    parser.add_argument("--budget", type=float, default=5.0, help="CPU seconds for each pair")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--max-ops", type=int, default=2500)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--policies", type=Path, default=POLICIES)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(arguments.out)
    if not arguments.table:
        warm_up()
        pairs = validation_pairs(arguments.pairs, arguments.max_ops)
        for seed in arguments.seeds:
            for name in (SEARCH, *arguments.variants):
                rows += measure(name, seed, pairs, rows, arguments)
    text = table(rows)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    return read_rows(path)


def validation_pairs(count: int, max_ops: int) -> list[Pair]:
    """Evenly spread over the pairs on which something can be won and that are not too large."""
    fitting = [
        pair
        for pair in get_suite("validation").pairs
        if int(pair.graph_ref.rpartition(":")[2]) <= max_ops and pair.headroom != "none"
    ]
    step = max(len(fitting) / count, 1.0)
    return [fitting[int(index * step)] for index in range(min(count, len(fitting)))]


def measure(
    name: str, seed: int, pairs: list[Pair], rows: list[dict[str, Any]], arguments: Any
) -> list[dict[str, Any]]:
    """Rows of one variant with one seed that are not there yet."""
    about = {"train_seconds": arguments.train_seconds, "max_ops": arguments.max_ops}
    done = {
        (row["graph"], row["cluster"])
        for row in rows
        if row["column"] == name
        and row["seed"] == seed
        and row["budget_seconds"] == arguments.budget
        and all(row[key] == value for key, value in about.items())
    }
    missing = [pair for pair in pairs if (pair.graph_ref, pair.cluster_ref) not in done]
    if not missing:
        return []
    contestant, rounds = contender(name, seed, arguments)
    found = []
    origin = Origin("validation", " ".join(sys.argv), commit())
    for pair in missing:
        measured = run(pair, prepare_problem(pair), contestant, seed, arguments.budget, origin)
        row = {**measured.as_dict(), **about, "rounds": rounds}
        found.append(row)
        append_row(arguments.out, row)
        print(name, seed, pair.graph_ref, pair.cluster_ref, row["makespan_seconds"], flush=True)
    return found


def contender(name: str, seed: int, arguments: Any) -> tuple[Contestant, int]:
    """Search, or the trained variant; and how many rounds it was trained for."""
    if name == SEARCH:
        search = get_placer(SEARCH)
        return Contestant(name, lambda p, b, s: Attempt(search(p, b, s, silent))), 0
    checkpoint, rounds = trained(name, seed, arguments)
    placer = PolicyPlacer(checkpoint.policy, checkpoint.config)
    digest = policy_digest(checkpoint.policy, checkpoint.config)
    return Contestant(name, lambda p, b, s: Attempt(placer(p, b, s, silent)), digest), rounds


def trained(name: str, seed: int, arguments: Any) -> tuple[Checkpoint, int]:
    """A variant after its CPU seconds of training; schedules follow the share that is spent."""
    agent = VARIANTS[name](AgentConfig())
    if name == UNTRAINED:
        torch.manual_seed(1_000_003 + seed)
        return Checkpoint(Policy(agent.policy), agent, {}), 0
    seconds = arguments.train_seconds
    folder = arguments.policies / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}-{seconds:g}"
    if (folder / "policy.json").exists():
        found = load_checkpoint(folder)
        return found, int(found.about["rounds"])
    config = TrainConfig(agent=agent, max_ops=arguments.max_ops, seed=seed, threads=1)
    training = Pretraining(config, Workers())
    begun = time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        whole = training.round * seconds / max(spent, 1e-9)
        training.config = replace(config, rounds=max(round(whole), training.round + 1))
        training.run_round()
    about = {"rounds": training.round, "variant": name, "seed": seed, "cpu_seconds": spent}
    checkpoint = Checkpoint(training.policy, agent, about)
    save_checkpoint(folder, checkpoint)
    return checkpoint, training.round


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: each variant against the full policy and against search."""
    if not rows:
        return "# What each part of the policy brings\n\nNo rows.\n"
    names = EvaluationRow.__dataclass_fields__.keys()
    plain = [EvaluationRow.from_dict({key: row[key] for key in row.keys() & names}) for row in rows]
    found = times(plain)
    seconds = ", ".join(sorted({f"{row['train_seconds']:g}" for row in rows}))
    budgets = ", ".join(sorted({f"{row['budget_seconds']:g}" for row in rows}))
    pairs = {(row["graph"], row["cluster"]) for row in rows}
    lines = [
        "# What each part of the policy brings",
        "",
        f"Each variant was trained from scratch for {seconds} CPU seconds per seed on the suite "
        f"`train`, then placed {len(pairs)} pairs of `validation` zero-shot with {budgets} CPU "
        "seconds each. Geometric means of simulated step times over the full policy's (three "
        "tasks: over the recurrent one's) and over search's at the same CPU seconds; below 1 is "
        "faster. With three tasks ops are fused and ordered as well, which search and the full "
        "policy do not do: over these the ratio says what fusion brings. Intervals of 95%: "
        "Student's, over pairs; outside the noise with as much for all variants together (Holm). "
        "Commands: "
        + ", ".join(f"`python {text}`" for text in sorted({row["command"] for row in rows}))
        + f"; commits {', '.join(sorted({row['commit'] for row in rows}))}.",
        "",
        "| variant | seeds | rounds | over | ratio | 95% interval | outside the noise "
        "| over search | 95% interval | outside the noise |",
        "|---|---:|---:|---|---:|---:|---|---:|---:|---|",
    ]
    losing = []
    named = [name for name in VARIANTS if name in found]
    versus = {name: AGAINST.get(name, FULL) for name in named}
    own_ratios = _judged(
        {
            name: ratio(name, other, found[name], found[other])
            for name, other in versus.items()
            if other in found and other != name
        }
    )
    search_ratios = _judged(
        {name: ratio(name, SEARCH, found[name], found.get(SEARCH, {})) for name in named}
    )
    for name in named:
        mine = [row for row in rows if row["column"] == name]
        seeds = len({row["seed"] for row in mine})
        rounds = [row["rounds"] for row in mine]
        other, against_search = versus[name], search_ratios[name]
        own = cells(own_ratios[name]) if name in own_ratios else " | | "
        lines.append(
            f"| {name} | {seeds} | {min(rounds)}-{max(rounds)} | {other if other != name else ''} "
            f"| {own} | {cells(against_search)} |"
        )
        if against_search.geometric_mean > 1:
            losing.append(name)
    lines += ["", f"Slower than search: {', '.join(losing) or 'none'}."]
    return "\n".join(lines) + "\n"


def _judged(compared: Mapping[str, MeanRatio]) -> dict[str, MeanRatio]:
    """With verdicts that hold for all variants together."""
    stands = holm([item.chance for item in compared.values()])
    return {
        name: replace(item, outside_noise=verdict)
        for (name, item), verdict in zip(compared.items(), stands, strict=True)
    }


def cells(item: MeanRatio) -> str:
    """Ratio, interval, verdict."""
    if not item.pairs:
        return " | | "
    verdict = ("faster" if item.geometric_mean < 1 else "slower") if item.outside_noise else "no"
    return f"{item.geometric_mean:.4f} | {item.low:.4f}-{item.high:.4f} | {verdict}"


if __name__ == "__main__":
    main()
