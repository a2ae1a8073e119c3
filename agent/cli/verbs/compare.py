"""`graphwright compare`: all placers on one model, side by side."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import print_import
from agent.cli.options import (
    ConstraintFlags,
    Target,
    read_cluster,
    read_model,
    read_rules,
    read_seconds,
)
from agent.cli.output import prepare, print_json, print_table, print_text, progress
from agent.cli.placement_text import rival_lines, write_outputs
from agent.cli.task_flags import TaskFlags
from agent.cli.throughput_flags import NOT_ASKED, Objective, ThroughputFlags
from agent.cli.verbs.compare_periods import compare_periods, compare_suite_periods
from agent.cli.verbs.compare_suite import compare_suite
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from placement.place import Placement
    from placement.throughput import Throughput


def compare(
    model: str | None = None,
    *,
    suite: str | None = None,
    families: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    target: Target = Target(),
    rules: ConstraintFlags = ConstraintFlags(),
    objective: Objective = "latency",
    overlap: ThroughputFlags = NOT_ASKED,
    placer: tuple[str, ...] = (),
    policy: Path | None = None,
    budget: str = "10s",
    seed: int = 0,
    out: Path | None = None,
    tasks: TaskFlags = TaskFlags(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run every placer on a model and show their simulated step times side by side.

    With --objective throughput: other tools' cuts, exact ones and the search for throughput beside
    plans that were made for one step's time, all by the period of steps that overlap.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    suite
        Instead of a model: a suite, its file, or a folder of models (with --cluster);
        `graphwright suites list` shows all. Prints one row for each pair and geometric means of
        ratios.
    families
        Of the suite, only graphs of these families.
    objective
        latency: the time of one step. throughput: the time between steps that overlap.
    placer
        Only these; repeat for several. All that need no policy where none is named. For throughput:
        whose plans for one step are set beside the splits.
    policy
        Checkpoint or run's folder, for the placer policy, which then takes part.
    budget
        CPU time for each any-time placer.
    seed
        Same seed, same decisions.
    out
        Folder for the best plan, with a report that sets all placers beside it.
    json
        Print one JSON object instead of a table.
    """
    from agent.placing.registry import POLICY, get_placer, has_shipped_policy
    from placement.place import place_problem
    from placement.placers.registry import PLACERS
    from placement.problem import Problem
    from simulator.units import format_bytes, format_seconds

    seconds = read_seconds(budget, "--budget")
    request = overlap.request(objective)
    if request is not None and (out is not None or policy is not None):
        raise GraphwrightError(
            "compare --objective throughput prints a table only: leave out --out and --policy; "
            "`graphwright place` writes the best plan, and takes a policy trained for throughput"
        )
    if (model is None) == (suite is None):
        raise GraphwrightError("compare what? Give a model, or --suite with a suite's name")
    if families and suite is None:
        raise GraphwrightError("--families goes with --suite, whose graphs have families")
    tasks.check()
    if tasks.is_given and (suite is None or request is not None):
        raise GraphwrightError(
            "--store, --jobs and --ray are for the rows of --suite, by the time of one step: leave "
            "them out with a model or with --objective throughput"
        )
    if suite is not None:
        if rules != ConstraintFlags() or target.dim or out is not None:
            raise GraphwrightError(
                "--suite takes neither constraints nor --dim; --out is for one model, and --suite "
                "prints its table only"
            )
        return _on_suite(
            suite, families, target, request, placer, policy, seconds, seed, json, tasks
        )
    assert model is not None
    if request is not None:
        asked = Problem(read_model(model, target), read_cluster(model, target), read_rules(rules))
        return compare_periods(asked, request, placer, seconds, seed, as_json=json)
    with_policy = (POLICY,) if policy is not None or has_shipped_policy() else ()
    names = placer or (*PLACERS, *with_policy)
    placers = {name: get_placer(name, policy) for name in names}
    problem = Problem(read_model(model, target), read_cluster(model, target), read_rules(rules))
    prepare(quiet=json)
    placements: list[Placement] = []
    with progress(f"{len(names)} placers", quiet=json) as on_progress:
        for index, name in enumerate(names):
            placements.append(place_problem(problem, placers[name], name, seconds, seed))
            on_progress((index + 1) / len(names))
    results = [dict(placement.summary()) for placement in placements]
    bound = problem.bounds.seconds
    written = {} if out is None else _write_best(placements, out, target)
    if json:
        head = {
            key: results[0][key] for key in ("graph", "digest", "ops", "import", "cluster", "seed")
        }
        print_json({**head, "lower_bound_seconds": bound, "placers": results, "files": written})
    else:
        best = min((r["makespan_seconds"] for r in results if r["feasible"]), default=float("nan"))
        rows = [
            [
                row["placer"],
                format_seconds(row["makespan_seconds"]),
                f"{row['makespan_seconds'] / best:.2f}",
                f"{row['makespan_seconds'] / bound:.2f}",
                format_bytes(max(row["peak_bytes"].values())),
                "yes" if row["feasible"] else "OOM",
                str(row["devices_used"]),
                str(row["crossings"]),
                f"{row['search_seconds']:.1f}",
                row["origin"],
            ]
            for row in results
        ]
        title = (
            f"{problem.graph.name}, {problem.graph.op_count} ops, on {problem.given_cluster.name}: "
            f"simulated, {problem.costs.name} costs, lower bound {format_seconds(bound)}"
        )
        columns = [
            "placer",
            "step",
            "x best",
            "x bound",
            "fullest device",
            "fits",
            "devices",
            "crossings",
        ]
        columns += ["CPU s", "by"]
        print_table(title, columns, rows)
        best_of_all = min(placements, key=lambda item: item.placed.best.rank_key)
        for line in rival_lines(best_of_all):
            print_text(line)
        print_import(problem.graph)
        for name, path in written.items():
            print_text(f"{name}: {path}")
    return DONE if any(row["feasible"] for row in results) else INFEASIBLE


def _on_suite(
    name: str,
    families: tuple[str, ...],
    target: Target,
    request: "Throughput | None",
    placers: tuple[str, ...],
    policy: Path | None,
    budget_seconds: float,
    seed: int,
    as_json: bool,
    tasks: TaskFlags,
) -> int:
    """The same for each pair of a suite, or of some of its families."""
    from placement.suites import get_suite, of_families

    chosen = of_families(get_suite(name, (target.cluster,) if target.cluster else ()), families)
    if request is None:
        return compare_suite(
            chosen, placers, budget_seconds, seed, as_json, policy, target.allow_unknown, tasks
        )
    return compare_suite_periods(
        chosen, request.in_flight, request.micro_batches, placers, budget_seconds, seed,
        as_json=as_json, allow_unknown=target.allow_unknown,
    )  # fmt: skip


def _write_best(placements: "list[Placement]", out: Path, target: Target) -> dict[str, str]:
    """The best plan's files; its report compares it with the other placers' plans."""
    best = min(placements, key=lambda item: item.placed.best.rank_key)
    others = tuple(
        replace(item.placed.best, origin=item.placer) for item in placements if item is not best
    )
    shown = replace(best, placed=replace(best.placed, candidates=others))
    return write_outputs(shown, out, target)
