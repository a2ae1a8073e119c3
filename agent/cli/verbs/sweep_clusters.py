"""`graphwright sweep-clusters`: which hardware is worth having for a model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.options import GUARDED, ImportFlags, pair, read_model, read_seconds, target_of
from agent.cli.output import prepare, print_json, print_table, print_text, progress
from agent.cli.throughput_flags import NOT_ASKED, Objective, ThroughputFlags
from agent.cli.verbs.sweep_periods import sweep_periods
from graphs.errors import GraphwrightError

_SEVERAL = Parameter(consume_multiple=True, negative=())


def sweep_clusters(
    model: str,
    *,
    cluster: Annotated[tuple[str, ...], _SEVERAL] = (),
    device: Annotated[tuple[str, ...], _SEVERAL] = ("v100",),
    count: Annotated[tuple[int, ...], _SEVERAL] = (1, 2, 4, 8),
    link: Annotated[tuple[str, ...], _SEVERAL] = ("pcie",),
    change: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    price: Annotated[tuple[str, ...], _SEVERAL] = (),
    dim: tuple[str, ...] = (),
    allow_unknown: Annotated[bool, Parameter(negative=())] = False,
    reading: ImportFlags = GUARDED,
    objective: Objective = "latency",
    overlap: ThroughputFlags = NOT_ASKED,
    placer: str | None = None,
    budget: str = "10s",
    seed: int = 0,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Place a model on many clusters: step time and cost per step, as a table and a plot.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    cluster
        Presets or cluster files. None: every combination of device, count and link.
    device
        Kinds of device, such as v100 a100.
    count
        Numbers of devices.
    link
        pcie, nvlink or ethernet.
    change
        Change every cluster as `simulate --set` does, such as link.bandwidth=2x.
    price
        KIND=MONEY per hour, such as v100=2.48; the cost is then money for 1000 steps, else
        device-seconds of a step.
    dim
        Size of a symbolic dimension, such as batch=8; repeat for several.
    allow_unknown
        Go on though more than a tenth of the tensors have no known shape.
    objective
        latency: the time of one step. throughput: the time between steps that overlap.
    placer
        As for place; the portfolio where none is named. Throughput has a search of its own.
    budget
        CPU time for each cluster, where the placer takes any.
    seed
        Same seed, same decisions.
    out
        HTML file with the plot.
    json
        Print one JSON object instead of a table.
    """
    from agent.cli.import_text import import_values, print_import
    from agent.placing.registry import get_placer
    from graphs.whole_files import write_whole
    from placement.report.sweep import efficient, sweep
    from placement.report.sweep_report import sweep_html, sweep_rows
    from simulator.cluster_file import load_cluster
    from simulator.clusters.what_if import apply_change

    seconds = read_seconds(budget, "--budget")
    names = cluster or tuple(f"{n}x{kind}-{way}" for kind in device for way in link for n in count)
    if not names:
        raise GraphwrightError("which clusters? Give --cluster, or --device, --count and --link")
    loaded = [load_cluster(name) for name in dict.fromkeys(names)]
    # One device has no links: 1xv100-pcie and 1xv100-nvlink are the same.
    distinct = {item.digest: item for item in reversed(loaded)}
    clusters = [apply_change(item, change) for item in loaded if distinct[item.digest] is item]
    prices = dict(_price(text) for text in price) if price else None
    target = target_of(reading, dim, allow_unknown)
    request = overlap.request(objective)
    if request is not None:
        if placer is not None or out is not None:
            raise GraphwrightError(
                "--objective throughput has a search of its own and prints a table: leave out "
                "--placer and --out"
            )
        graph = read_model(model, target)
        return sweep_periods(graph, clusters, request, seconds, seed, prices, as_json=json)
    placer = placer or "portfolio"
    decide = get_placer(placer, None)
    graph = read_model(model, target)
    prepare(quiet=json)
    with progress(f"{len(clusters)} clusters", quiet=json) as on_progress:
        points = sweep(
            graph, clusters, decide, placer, seconds, seed, prices,
            lambda done: on_progress(done / len(clusters)),
        )  # fmt: skip
    unit = "device-seconds" if prices is None else "cost of 1000 steps"
    if out is not None:
        write_whole(out, sweep_html(points, unit))
    if json:
        print_json(
            {
                "graph": graph.name,
                "digest": graph.digest,
                "import": import_values(graph),
                "placer": placer,
                "unit": unit,
                "clusters": [
                    {
                        "cluster": point.cluster.name,
                        "devices": point.cluster.device_count,
                        "used_devices": point.used_devices,
                        "makespan_seconds": point.seconds,
                        "lower_bound_seconds": point.placement.problem.bounds.seconds,
                        "cost": point.cost,
                        "feasible": point.placement.feasible,
                        "worth_having": good,
                    }
                    for point, good in zip(points, efficient(points), strict=True)
                ],
                "file": None if out is None else str(out),
            }
        )
    else:
        marks = ["*" if good else "" for good in efficient(points)]
        rows = [[*row, mark] for row, mark in zip(sweep_rows(points), marks, strict=True)]
        columns = ["cluster", "devices", "used", "step", "x first", "x bound", unit, "fullest"]
        title = f"{graph.name}, {graph.op_count} ops, by {placer}: simulated"
        print_table(title, [*columns, "memory", "worth"], rows)
        print_import(graph)
        print_text("* no other cluster of the table is both faster and cheaper")
        if out is not None:
            print_text(f"wrote {out}")
    return DONE if any(point.placement.feasible for point in points) else INFEASIBLE


def _price(text: str) -> tuple[str, float]:
    kind, value = pair(text, "--price", "KIND=MONEY")
    try:
        money = float(value)
    except ValueError:
        money = -1.0
    if not 0 <= money < float("inf"):
        raise GraphwrightError(f"--price {text}: {value!r} is no amount of money per hour")
    return kind, money
