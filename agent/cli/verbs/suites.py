"""`graphwright suites`: what there is to train on and to be judged by."""

from collections import Counter
from typing import Annotated

from cyclopts import App, Parameter

from agent.cli.output import print_json, print_table, print_text

suites_app = App(name="suites", help="List suites of graphs and clusters, show one.")


@suites_app.command(name="list")
def list_suites(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the suites; nothing is built.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    from placement.suites import SUITES, Headroom

    counts = {
        name: Counter(pair.headroom for pair in suite.pairs) for name, suite in SUITES.items()
    }
    if json:
        suites = [
            {
                "name": name,
                "description": suite.description,
                "pairs": len(suite.pairs),
                "headroom": {tag.value: counts[name][tag] for tag in Headroom},
            }
            for name, suite in SUITES.items()
        ]
        print_json({"suites": suites})
        return 0
    rows = [
        [name, suite.description, str(len(suite.pairs)), *(str(counts[name][t]) for t in Headroom)]
        for name, suite in SUITES.items()
    ]
    print_table("", ["suite", "what", "pairs", *Headroom], rows, left=2)
    return 0


@suites_app.command
def show(
    name: str,
    *,
    cluster: Annotated[tuple[str, ...], Parameter(alias="-c")] = (),
    build: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the pairs of a suite, or of a folder of models.

    Parameters
    ----------
    name
        A suite's name, or a folder of models.
    cluster
        For a folder: a preset or cluster file, such as 4xv100-pcie@tight:1.3; repeat for several.
    build
        Build each graph, too, and show its size and digest.
    json
        Print one JSON object instead of a table.
    """
    from placement.suites import get_suite

    suite = get_suite(name, cluster)
    rows = [dict(pair.as_dict()) for pair in suite.pairs]
    if build:
        for pair, row in zip(suite.pairs, rows, strict=True):
            graph = pair.graph()
            row.update(ops=graph.op_count, edges=graph.edge_count, digest=graph.digest)
    if json:
        print_json({"suite": suite.name, "description": suite.description, "pairs": rows})
        return 0
    print_text(f"{suite.name}: {suite.description}")
    columns = list(rows[0])
    cells = [[str(value) for value in row.values()] for row in rows]
    print_table("", columns, cells, left=3)
    return 0
