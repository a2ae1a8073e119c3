"""`graphwright suites`: what there is to train on and to be judged by."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from agent.cli.output import prepare, print_json, print_table, print_text, progress
from graphs.errors import GraphwrightError
from graphs.whole_files import write_whole

_SEVERAL = Parameter(consume_multiple=True, negative=())

suites_app = App(name="suites", help="List suites of graphs and clusters, show one, pin one.")


@suites_app.command(name="list")
def list_suites(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the suites; nothing is built.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    from placement.suites import SUITES, Headroom, added_suites, pinned_names

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
        others = [
            {"name": name, "distribution": plug_in.distribution}
            for name, plug_in in added_suites().items()
        ]
        print_json({"suites": suites, "pinned": list(pinned_names()), "added": others})
        return 0
    rows = [
        [name, suite.description, str(len(suite.pairs)), *(str(counts[name][t]) for t in Headroom)]
        for name, suite in SUITES.items()
    ]
    print_table("", ["suite", "what", "pairs", *Headroom], rows, left=2)
    print_text(f"pinned, with digests of graphs and clusters: {', '.join(pinned_names())}")
    for name, plug_in in added_suites().items():
        print_text(f"{name}: of the distribution {plug_in.distribution}")
    return 0


@suites_app.command
def show(
    name: str,
    *,
    cluster: Annotated[tuple[str, ...], Parameter(alias="-c")] = (),
    families: Annotated[tuple[str, ...], _SEVERAL] = (),
    build: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the pairs of a suite, of a suite's file, or of a folder of models.

    Parameters
    ----------
    name
        A suite's name, its file, or a folder of models.
    cluster
        For a folder: a preset or cluster file, such as 4xv100-pcie@tight:1.3; repeat for several.
    families
        Only graphs of these families: of generated graphs, of real ones' architectures.
    build
        Build each graph, too, and show its size and digest.
    json
        Print one JSON object instead of a table.
    """
    from placement.suites import get_suite, of_families

    suite = of_families(get_suite(name, cluster), families)
    rows = [dict(pair.as_dict()) for pair in suite.pairs]
    if build:
        for pair, row in zip(suite.pairs, rows, strict=True):
            graph = pair.graph()
            row.update(ops=graph.op_count, edges=graph.edge_count, digest=graph.digest)
    if json:
        pinned = {"digest": suite.digest} if suite.version else {}
        about = {"suite": suite.label, "description": suite.description, **pinned}
        print_json({**about, "pairs": rows})
        return 0
    print_text(f"{suite.label}: {suite.description}")
    if suite.version:
        print_text(f"pinned, digest {suite.digest}")
    columns = list(rows[0])
    cells = [[_text(value) for value in row.values()] for row in rows]
    print_table("", columns, cells, left=3)
    return 0


@suites_app.command
def pin(
    name: str,
    *,
    out: Path,
    version: str = "1",
    cluster: Annotated[tuple[str, ...], Parameter(alias="-c")] = (),
    families: Annotated[tuple[str, ...], _SEVERAL] = (),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a suite with digests of its graphs and clusters, and memory rules as bytes.

    The file goes wherever a suite's name does: everyone has the same problems then, or an error.

    Parameters
    ----------
    name
        A suite's name, its file, or a folder of models.
    out
        File to write, such as suite.json; one that is there already is not replaced.
    version
        What this state of the suite is to be called; results name it behind the suite's name.
    cluster
        For a folder: a preset or cluster file; repeat for several.
    families
        Only graphs of these families.
    json
        Print one JSON object instead of text.
    """
    from placement.suites import get_suite, of_families, pin_suite, suite_text

    if out.suffix != ".json":
        raise GraphwrightError(f"--out {out}: give a file that ends in .json")
    if out.exists():
        raise GraphwrightError(f"{out} is there already; give another file, and another --version")
    if not out.parent.is_dir():
        raise GraphwrightError(f"{out.parent}: no such folder; make it first")
    suite = of_families(get_suite(name, cluster), families)
    prepare(quiet=json)
    with progress(f"{len(suite.pairs)} pairs of {suite.label}", quiet=json) as on_progress:
        pinned = pin_suite(suite, version, on_progress)
    write_whole(out, suite_text(pinned, out.parent))
    if json:
        found = {"suite": pinned.label, "pairs": len(pinned.pairs), "digest": pinned.digest}
        print_json({**found, "file": str(out)})
    else:
        print_text(f"{pinned.label}: {len(pinned.pairs)} pairs, digest {pinned.digest}, in {out}")
    return 0


def _text(value: object) -> str:
    """As a table has it: equal bytes of several devices once."""
    if isinstance(value, list):
        return ", ".join(str(each) for each in dict.fromkeys(value))
    return str(value)
