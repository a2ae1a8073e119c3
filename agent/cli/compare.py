"""`graphwright compare`: all placers on one model, side by side."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from agent.cli.compare_suite import compare_suite
from agent.cli.options import Rules, Target, read_cluster, read_model, read_rules, read_seconds
from agent.cli.output import prepare, print_json, print_table, progress
from graphs.errors import GraphwrightError

INFEASIBLE = 3


def compare(
    model: str | None = None,
    *,
    suite: str | None = None,
    target: Target = Target(),
    rules: Rules = Rules(),
    placer: tuple[str, ...] = (),
    policy: Path | None = None,
    budget: str = "10s",
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run every placer on a model and show their simulated step times side by side.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    suite
        Instead of a model: a suite, or a folder of models (with --cluster); `graphwright suites
        list` shows all. Prints one row for each pair and geometric means of ratios.
    placer
        Only these; repeat for several. All that need no policy where none is named.
    policy
        Checkpoint or run's folder, for the placer policy, which then takes part.
    budget
        CPU time for each any-time placer.
    seed
        Same seed, same decisions.
    json
        Print one JSON object instead of a table.
    """
    from agent.placers import POLICY, get_placer, has_shipped_policy
    from placement.place import place_problem
    from placement.problem import Problem
    from placement.registry import PLACERS
    from simulator.units import format_bytes, format_seconds

    seconds = read_seconds(budget, "--budget")
    if (model is None) == (suite is None):
        raise GraphwrightError("compare what? Give a model, or --suite with a suite's name")
    if suite is not None:
        if rules != Rules() or target.dim:
            raise GraphwrightError("--suite takes neither constraints nor --dim")
        clusters = (target.cluster,) if target.cluster else ()
        return compare_suite(suite, clusters, placer, seconds, seed, json, policy)
    assert model is not None
    with_policy = (POLICY,) if policy is not None or has_shipped_policy() else ()
    names = placer or (*PLACERS, *with_policy)
    placers = {name: get_placer(name, policy) for name in names}
    problem = Problem(read_model(model, target), read_cluster(model, target), read_rules(rules))
    prepare(quiet=json)
    results: list[dict[str, Any]] = []
    with progress(f"{len(names)} placers", quiet=json) as report:
        for index, name in enumerate(names):
            placed = place_problem(problem, placers[name], name, seconds, seed)
            results.append(dict(placed.summary()))
            report((index + 1) / len(names))
    bound = problem.bounds.seconds
    if json:
        head = {key: results[0][key] for key in ("graph", "digest", "ops", "cluster", "seed")}
        print_json({**head, "lower_bound_seconds": bound, "placers": results})
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
                f"{row['search_seconds']:.1f}",
                row["origin"],
            ]
            for row in results
        ]
        title = (
            f"{problem.graph.name}, {problem.graph.op_count} ops, on {problem.given_cluster.name}: "
            f"simulated, {problem.costs.name} costs, lower bound {format_seconds(bound)}"
        )
        columns = ["placer", "step", "x best", "x bound", "fullest device", "fits", "CPU s", "by"]
        print_table(title, columns, rows)
    return 0 if any(row["feasible"] for row in results) else INFEASIBLE
