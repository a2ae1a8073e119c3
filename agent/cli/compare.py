"""`graphwright compare`: all placers on one model, side by side."""

from typing import Annotated, Any

from cyclopts import Parameter

from agent.cli.options import Rules, Target, read_cluster, read_model, read_rules, read_seconds
from agent.cli.output import prepare, print_json, print_table, progress

INFEASIBLE = 3


def compare(
    model: str,
    *,
    target: Target = Target(),
    rules: Rules = Rules(),
    placer: tuple[str, ...] = (),
    budget: str = "10s",
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run every placer on a model and show their simulated step times side by side.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    placer
        Only these; repeat for several.
    budget
        CPU time for each any-time placer.
    seed
        Same seed, same decisions.
    json
        Print one JSON object instead of a table.
    """
    from placement.place import place_problem
    from placement.problem import Problem
    from placement.registry import PLACERS, get_placer
    from simulator.units import format_bytes, format_seconds

    seconds = read_seconds(budget, "--budget")
    names = placer or tuple(PLACERS)
    placers = {name: get_placer(name) for name in names}
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
