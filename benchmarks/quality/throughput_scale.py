"""Throughput at 80,000 ops: what ten, thirty and six hundred CPU seconds find.

    python benchmarks/quality/throughput_scale.py [--budgets 10s,30s,600s]
        [--pairs GRAPH@CLUSTER,...] [--json OUT.json] [--out FILE.md]

Graphs are generated; training steps are one of eight micro-batches. Each budget is a run of its own
from nothing, with all that it takes counted: contracting the graph, linear orders, exact cuts, the
event engine and the search of borders. Periods are the event engine's; of micro-batches the whole
step over their number. Rows that the JSON file has already are not measured again.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.rows import commit
from graphs.families.reference import graph_of_reference
from graphs.graph import Graph
from graphs.kinds import Phase
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput import Throughput, plan_pipeline, warm_up_pipelines
from simulator import preset
from simulator.units import SECONDS, parse_quantity

_PAIRS = (
    "transformer:25007:80000@4xv100-pcie",
    "convnet:25007:80000@4xv100-pcie",
    "transformer:3:80000@4xa100+4xv100-pcie",
    "rnnlm:3:80000@8xv100-nvlink",
)
_MICRO_BATCHES = 8

Row = dict[str, float | int | str]


def request_of(graph: Graph) -> Throughput:
    """Eight micro-batches of a training step; requests of an inference graph."""
    training = bool((graph.phases == Phase.UPDATE).any())
    return Throughput(micro_batches=_MICRO_BATCHES if training else 1)


def row_of(pair: str, budget: str, seed: int) -> Row:
    """One run."""
    reference, _, cluster = pair.partition("@")
    graph = graph_of_reference(reference)
    problem = Problem(graph, preset(cluster))
    _ = problem.seconds, problem.unit_of
    request = request_of(graph)
    begun = time.process_time()
    seconds = parse_quantity(budget, SECONDS, "--budgets")
    found = plan_pipeline(problem, Budget(seconds), seed, request)
    spent = time.process_time() - begun
    splits = [split for split in (found.best, *found.others) if split.fits]
    periods = {split.name: split.period_seconds for split in splits}
    return {
        "pair": pair,
        "budget": budget,
        "ops": graph.op_count,
        "micro_batches": request.micro_batches,
        "cpu_seconds": spent,
        "period_seconds": min(periods.values()),
        "contiguous_seconds": periods.get("contiguous", float("inf")),
        "one_device_seconds": periods.get("one device", float("inf")),
        "bound_seconds": found.bound_seconds,
    }


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", default="10s,30s,600s")
    parser.add_argument("--pairs", default=",".join(_PAIRS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: list[Row] = []
    if arguments.json is not None and arguments.json.exists():
        rows = json.loads(arguments.json.read_text())
    warm_up_pipelines()
    for budget in arguments.budgets.split(","):
        for pair in arguments.pairs.split(","):
            if any(row["pair"] == pair and row["budget"] == budget for row in rows):
                continue
            rows.append(row_of(pair, budget, arguments.seed))
            print(rows[-1], flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.out is not None:
        arguments.out.write_text(page(rows), encoding="utf-8")


def page(rows: list[Row]) -> str:
    """A row for each pair, a column for each budget."""
    budgets = sorted(
        {str(row["budget"]) for row in rows},
        key=lambda text: parse_quantity(text, SECONDS, "--budgets"),
    )
    head = ["graph and cluster", "ops", "bound", "contiguous", *budgets]
    head += [f"{budgets[-2]} / {budgets[-1]}"] if len(budgets) > 1 else []
    head += [f"{budgets[-1]} / bound"]
    lines = [
        "# Throughput at 80,000 ops\n",
        f"`python benchmarks/quality/throughput_scale.py --budgets {','.join(budgets)}`, commit "
        f"{commit()}. Milliseconds between steps in the event engine; of training steps with "
        f"{_MICRO_BATCHES} micro-batches the whole step over their number, which no pipeline of "
        "stages brings to the bound. In brackets the CPU seconds that were spent; a search ends "
        "early within 0.01% of the bound over all placements.\n",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for pair in dict.fromkeys(str(row["pair"]) for row in rows):
        of_pair = {str(row["budget"]): row for row in rows if row["pair"] == pair}
        some = next(iter(of_pair.values()))
        cells = [pair, f"{some['ops']:,}", _milliseconds(some["bound_seconds"])]
        cells.append(_milliseconds(some["contiguous_seconds"]))
        for budget in budgets:
            row = of_pair.get(budget)
            cells.append(
                ""
                if row is None
                else f"{_milliseconds(row['period_seconds'])} ({float(row['cpu_seconds']):.0f} s)"
            )
        if len(budgets) > 1 and {*budgets[-2:]} <= set(of_pair):
            short, long = (float(of_pair[budget]["period_seconds"]) for budget in budgets[-2:])
            cells.append(f"{short / long:.4f}")
        last = of_pair.get(budgets[-1])
        cells.append(
            ""
            if last is None
            else f"{float(last['period_seconds']) / float(last['bound_seconds']):.4f}"
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _milliseconds(seconds: float | int | str) -> str:
    return f"{float(seconds) * 1e3:.3f}"


if __name__ == "__main__":
    main()
