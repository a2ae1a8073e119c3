"""Throughput, simulated: ours against the cuts of other tools, ten models and ten training steps.

    python benchmarks/quality/throughput_table.py [--budget 10s] [--clusters A,B,C]
        [--graphs G,H] [--rows OUT.jsonl] [--out FILE.md]

Requests of inference graphs, at most twice the devices in flight; training steps of eight
micro-batches, each as large as the bundled graph. Every column runs in the event engine, with the
order and the steps in flight that suit it best. Rows that the file has already are not run again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import append_row, commit, read_rows
from graphs.bundled_graphs import load_bundled
from graphs.kinds import Phase
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput import Split, Throughput, plan_pipeline, warm_up_pipelines
from simulator import preset
from simulator.errors import InfeasibleError
from simulator.units import SECONDS, parse_quantity

_MODELS = (
    "bert-base", "gpt2", "llama-1b", "mamba-130m", "swin-t", "t5-base", "unet", "vit-b16",
    "whisper-base", "granite-moe-1b",
)  # fmt: skip
_CLUSTERS = ("4xv100-pcie", "4xv100-nvlink", "2xa100+2xv100-pcie")
_MICRO_BATCHES = 8
#: What others do, by the names of splits.
_OTHERS = ("equal layers", "equal bytes", "equal flops", "balanced DP", "one device")


def row_of(name: str, cluster: str, seconds: float, seed: int) -> dict[str, Any]:
    """One graph on one cluster."""
    problem = Problem(load_bundled(name), preset(cluster))
    training = bool((problem.graph.phases == Phase.UPDATE).any())
    row: dict[str, Any] = {"graph": name, "cluster": cluster, "ops": problem.graph.op_count}
    begun = time.process_time()
    try:
        found = plan_pipeline(
            problem,
            Budget(seconds),
            seed,
            Throughput(micro_batches=_MICRO_BATCHES if training else 1),
        )
    except InfeasibleError as error:
        return {**row, "failure": str(error)}
    splits: list[Split] = [found.best, *found.others]
    simulated = found.best.simulated
    assert simulated is not None, "the engine runs every split"
    memory = np.array(simulated.peak_bytes) / problem.cluster.memory_bytes
    return {
        **row,
        "bound": found.bound_seconds,
        "split": found.best.name,
        "period": found.best.period_seconds,
        "latency": simulated.latency_seconds,
        "order": str(simulated.schedule.order),
        "in_flight": simulated.schedule.in_flight,
        "memory_share": float(memory.max()),
        "fastest": min(split.period_seconds for split in splits if split.fits),
        "others": {s.name: s.period_seconds if s.fits else None for s in splits},
        "cpu_seconds": time.process_time() - begun,
        "commit": commit(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Periods over the bound on all placements, one line for each graph and cluster."""
    lines = [
        "| graph | cluster | ours | split | in flight | memory | " + " | ".join(_OTHERS) + " |",
        "|---|---|---|---|---|---|" + "---|" * len(_OTHERS),
    ]
    for row in rows:
        if "failure" in row:
            lines.append(f"| {row['graph']} | {row['cluster']} | {row['failure']} |")
            continue
        cells = [_over(row["others"].get(name), row["bound"]) for name in _OTHERS]
        order = "" if row["order"] == "oldest-first" else f", {row['order']}"
        lines.append(
            f"| {row['graph']} | {row['cluster']} | **{row['period'] / row['bound']:.2f}** | "
            f"{row['split']}{order} | {row['in_flight']} | {row['memory_share']:.0%} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def summary(rows: list[dict[str, Any]]) -> str:
    """Ours over each of the others where both fit: geometric mean, best, worst, how often."""
    lines = [
        "| graphs | ours over | pairs | geometric mean | least | most | others do not fit |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("inference", "training"):
        mine = [r for r in rows if "failure" not in r and _kind(r) == kind]
        for name in _OTHERS:
            ratios = [r["period"] / r["others"][name] for r in mine if r["others"].get(name)]
            unfit = sum(1 for r in mine if r["others"].get(name) is None)
            if ratios:
                lines.append(
                    f"| {kind} | {name} | {len(ratios)} | {np.exp(np.mean(np.log(ratios))):.3f} | "
                    f"{min(ratios):.3f} | {max(ratios):.3f} | {unfit} |"
                )
        bound = [r["period"] / r["bound"] for r in mine]
        if bound:
            lines.append(
                f"| {kind} | the bound | {len(bound)} | {np.exp(np.mean(np.log(bound))):.3f} | "
                f"{min(bound):.3f} | {max(bound):.3f} | |"
            )
    return "\n".join(lines)


def _kind(row: dict[str, Any]) -> str:
    return "training" if row["graph"].endswith("-train") else "inference"


def _over(seconds: float | None, bound: float) -> str:
    return "does not fit" if seconds is None else f"{seconds / bound:.2f}"


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", default="10s")
    parser.add_argument("--clusters", default=",".join(_CLUSTERS))
    names = [*_MODELS, *(f"{name}-train" for name in _MODELS)]
    parser.add_argument("--graphs", default=",".join(names))
    parser.add_argument("--rows", type=Path, default=Path("out/throughput_table.jsonl"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = parse_quantity(arguments.budget, SECONDS, "--budget")
    warm_up_pipelines()
    done = {(row["graph"], row["cluster"]) for row in read_rows(arguments.rows)}
    for name in arguments.graphs.split(","):
        for cluster in arguments.clusters.split(","):
            if (name, cluster) not in done:
                row = row_of(name, cluster, seconds, arguments.seed)
                append_row(arguments.rows, row)
                print(name, cluster, row.get("period"), row.get("bound"), flush=True)
    rows = read_rows(arguments.rows)
    text = (
        "# Throughput, simulated\n\n"
        f"`python benchmarks/quality/throughput_table.py --budget {arguments.budget}`, commit "
        f"{rows[-1].get('commit', commit())}. Periods over the bound on all placements; of "
        f"training steps, the whole step of {_MICRO_BATCHES} micro-batches over "
        f"{_MICRO_BATCHES}, with filling, draining and the update. Simulated, one seed.\n\n"
        f"{summary(rows)}\n\n{table(rows)}\n"
    )
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
