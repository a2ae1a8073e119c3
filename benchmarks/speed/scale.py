"""CPU seconds of every stage of a placement against the number of ops, with exponents.

    python -m benchmarks.speed.scale                     # 1,000 to 200,000 ops; some minutes
    python -m benchmarks.speed.scale --sizes 1000 8000   # a quick look

Graphs of two families grow: RNNLM, deep in time, and transformer, wide. Each stage is timed in
turn, once, after kernels are compiled; the exponent is the slope of a line through the logarithms,
from the first size to the last. Writes `benchmarks/results/scale.jsonl`, `scale.md` and
`docs/scale.svg`.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.rows import RESULTS, append_row, commit, read_rows

SIZES = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 200_000)
FAMILIES = ("rnnlm", "transformer")
#: Memory for the largest graph: where nothing fits, repair takes the whole budget, by intent.
CLUSTER = "4xv100-pcie@512GiB"
#: A search's plan is reported, and so many moves from it are timed, half way through its cooling.
_SEARCH_SECONDS, _MOVES = 10.0, 200
DOCS = Path(__file__).resolve().parents[2] / "docs"


def stages(reference: str) -> Iterator[tuple[str, float]]:
    """Names of stages and CPU seconds that each takes on a graph."""
    import tempfile

    import graphs
    from graphs.catalogue import resolve
    from graphs.graph_file import write_graph
    from placement.annealing.anneal import Annealer
    from placement.annealing.hierarchy import build_hierarchy
    from placement.place import place_problem
    from placement.placer import Budget, silent
    from placement.placers.registry import get_placer
    from placement.placers.search import DEFAULT
    from placement.problem import Problem
    from placement.report import report_html
    from placement.simplicity import simplify
    from simulator.clusters.presets import preset

    def timed(work: Callable[[], Any]) -> tuple[Any, float]:
        begun = process_time()
        result = work()
        return result, process_time() - begun

    graph, seconds = timed(lambda: resolve(reference))
    yield "generate", seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.gwgraph"
        yield "write", timed(lambda: write_graph(graph, path))[1]
        yield "load", timed(lambda: graphs.load(path))[1]

    def problem_of() -> Any:
        problem = Problem(graph, preset(CLUSTER))
        _ = problem.bounds, problem.simulator.program, problem.unit_allowed
        return problem

    problem, seconds = timed(problem_of)
    yield "problem and bounds", seconds
    placed, seconds = timed(lambda: get_placer("portfolio")(problem, Budget(1e9), 0, silent))
    yield "portfolio", seconds
    plan = placed.best.plan
    yield "one simulation", timed(lambda: [problem.evaluate(plan) for _ in range(5)])[1] / 5
    yield "trace", timed(lambda: problem.simulator.trace(plan))[1]
    yield "simplifying", timed(lambda: simplify(problem, placed.best, placed.candidates))[1]
    yield from _policy_stages(reference, problem)
    done = place_problem(problem, get_placer("search"), "search", _SEARCH_SECONDS, 0)
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    chain = annealer.start(done.plan.devices, done.plan.ranks, 0)
    moved, seconds = timed(lambda: annealer.advance(chain, _MOVES, DEFAULT.start_temperature / 2))
    yield "search, per evaluation", seconds / max(moved.evaluations, 1)
    yield "report", timed(lambda: report_html(done.reported))[1]


def _policy_stages(reference: str, problem: Any) -> Iterator[tuple[str, float]]:
    import torch

    from agent.decoding.checkpoint import load_one_shot
    from agent.decoding.config import DrawConfig
    from agent.decoding.placer import policy_at
    from agent.decoding.sampling import draw_plans, look_at
    from agent.decoding.subject import make_subject

    torch.set_num_threads(1)
    policy = load_one_shot(policy_at(None)).policy
    begun = process_time()
    subject = make_subject(reference, problem, 0)
    look = look_at(policy, subject)
    yield "one-shot policy, the look", process_time() - begun
    begun = process_time()
    draw_plans(look, subject, DrawConfig(plans=16, first=16), 0)
    yield "one-shot policy, 16 plans", process_time() - begun


def exponent(ops: list[int], seconds: list[float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(ops), np.log(np.maximum(seconds, 1e-6)), 1)[0])


def curves(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """Ops and seconds of each family and stage, by rising ops."""
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for row in sorted(rows, key=lambda one: int(one["ops"])):
        for stage, seconds in row["seconds"].items():
            ops, values = found.setdefault((row["family"], stage), ([], []))
            ops.append(row["ops"])
            values.append(seconds)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The page: seconds at some sizes, and exponents."""
    lines = [
        "# CPU seconds against the number of ops",
        "",
        f"`python -m benchmarks.speed.scale`, commit {rows[-1]['commit']}, {CLUSTER}, one core.",
        "The exponent is that of a line through all sizes in logarithms; `over 50,000` through",
        "those above.",
        "",
    ]  # fmt: skip
    for family in dict.fromkeys(row["family"] for row in rows):
        own = {stage: curve for (name, stage), curve in curves(rows).items() if name == family}
        ops = next(iter(own.values()))[0]
        shown = [0, len(ops) // 2, *range(max(len(ops) - 3, 1), len(ops))]
        shown = sorted(set(shown))
        lines += [
            f"| {family} | {' | '.join(f'{ops[i]:,}' for i in shown)} | exponent | over 50,000 |",
            "|---|" + "---|" * (len(shown) + 2),
        ]
        for stage, (sizes, seconds) in own.items():
            large = [i for i, size in enumerate(sizes) if size > 50_000]
            upper = (
                f"{exponent([sizes[i] for i in large], [seconds[i] for i in large]):.2f}"
                if len(large) > 1
                else "-"
            )
            cells = " | ".join(f"{seconds[i]:.3g}" for i in shown)
            lines.append(f"| {stage} | {cells} | {exponent(sizes, seconds):.2f} | {upper} |")
        lines.append("")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """All curves in one picture, a panel for each family."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "graphwright"
    import matplotlib.pyplot as plt

    families = list(dict.fromkeys(row["family"] for row in rows))
    figure, axes = plt.subplots(1, len(families), figsize=(6 * len(families), 5), sharey=True)
    for axis, family in zip(np.atleast_1d(axes), families, strict=True):
        for (name, stage), (ops, seconds) in curves(rows).items():
            if name == family:
                axis.loglog(ops, seconds, marker="o", markersize=3, label=stage)
        axis.loglog([1e3, 2e5], [1e-3, 0.2], "k:", linewidth=1, label="linear")
        axis.set(title=family, xlabel="ops")
    np.atleast_1d(axes)[0].set_ylabel("CPU seconds")
    np.atleast_1d(axes)[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure what is missing, then write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    given = parser.parse_args()
    from graphs.catalogue import resolve
    from placement.placers.warm_up import warm_up

    warm_up()
    for _ in stages("rnnlm:3:400"):  # libraries load, kernels compile
        pass
    path = RESULTS / "scale.jsonl"
    if not given.resume:
        path.unlink(missing_ok=True)
    done = {(row["family"], row["size"]) for row in read_rows(path)}
    for family in given.families:
        for size in given.sizes:
            if (family, size) in done:
                continue
            reference = f"{family}:17:{size}"
            seconds = dict(stages(reference))
            ops = resolve(reference).op_count
            append_row(path, {"family": family, "size": size, "ops": ops, "commit": commit(),
                              "seconds": seconds})  # fmt: skip
            print(
                family, ops, {name: round(value, 4) for name, value in seconds.items()}, flush=True
            )
    rows = read_rows(path)
    (RESULTS / "scale.md").write_text(table(rows), encoding="utf-8")
    plot(rows, DOCS / "scale.svg")


if __name__ == "__main__":
    main()
