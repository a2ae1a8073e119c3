"""`graphwright graphs`: look at a model, list and write graphs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from agent.cli.options import Target, read_model
from agent.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from graphs.summary import GraphSummary

graphs_app = App(name="graphs", help="Look at a model, list bundled graphs, convert a model.")


@graphs_app.command
def show(
    model: str,
    *,
    target: Target = Target(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show ops by kind, flops, bytes, parameters, depth, width and what the import assumed.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    json
        Print one JSON object instead of tables.
    """
    from graphs.summary import summarise

    summary = summarise(read_model(model, target))
    if json:
        print_json(summary.as_dict())
    else:
        _print_summary(summary)
    return 0


def _print_summary(summary: "GraphSummary") -> None:
    print_text(
        f"{summary.name} ({summary.source_format}, digest {summary.digest}): {summary.ops:,} ops, "
        f"{summary.edges:,} edges, depth {summary.depth:,}, width {summary.width:,}"
    )
    print_text(
        f"{summary.flops / 1e9:,.2f} GFLOP, {summary.resident_bytes / 1e6:,.1f} MB of parameters "
        f"and state, {summary.bytes_moved / 1e9:,.2f} GB moved"
    )
    rows = [
        [row.kind, f"{row.ops:,}", f"{row.flops / 1e9:,.3f}", f"{row.bytes_moved / 1e6:,.1f}",
         f"{row.resident_bytes / 1e6:,.1f}"]
        for row in summary.kinds
    ]  # fmt: skip
    print_table("", ["kind", "ops", "GFLOP", "MB moved", "MB resident"], rows)
    for line in summary.assumptions:
        print_text(line)


@graphs_app.command(name="list")
def list_graphs(
    *,
    real: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the graphs that ship with the package.

    Parameters
    ----------
    real
        List the graphs of models of torchvision, timm, transformers and others, with their
        architecture family and split, instead of the bundled ones.
    json
        Print one JSON object instead of a table.
    """
    from graphs.bundled_graphs import bundled_names, load_bundled

    if real:
        return _list_real(json)
    bundled = [load_bundled(name) for name in bundled_names()]
    if json:
        print_json(
            {
                "graphs": [
                    {"name": g.name, "digest": g.digest, "ops": g.op_count, "edges": g.edge_count}
                    for g in bundled
                ]
            }
        )
        return 0
    rows = [
        [g.name, f"{g.op_count:,}", f"{g.edge_count:,}", f"{g.flops.sum() / 1e9:,.0f}", g.digest]
        for g in bundled
    ]
    print_table("", ["graph", "ops", "edges", "GFLOP", "digest"], rows)
    return 0


def _list_real(json: bool) -> int:
    """The manifest of real graphs; no graph is read."""
    from dataclasses import asdict

    from graphs.real_graphs import real_graphs

    known = list(real_graphs().values())
    if json:
        print_json({"graphs": [{"reference": row.reference, **asdict(row)} for row in known]})
        return 0
    rows = [
        [row.reference, row.family, row.split, row.package, f"{row.ops:,}", row.digest]
        for row in known
    ]
    print_table("", ["graph", "family", "split", "package", "ops", "digest"], rows, left=4)
    return 0


@graphs_app.command
def convert(
    model: str,
    *,
    out: Path,
    target: Target = Target(),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a model as a graphwright graph: small, without weights, quick to load.

    Parameters
    ----------
    model
        A model file, or the name of a bundled graph.
    out
        The file to write, by custom with the ending .gwgraph.
    json
        Print one JSON object instead of text.
    """
    from graphs.graph_file import write_graph

    graph = read_model(model, target)
    write_graph(graph, out)
    values = {"graph": graph.name, "digest": graph.digest, "ops": graph.op_count, "file": str(out)}
    if json:
        print_json(values)
    else:
        print_text(f"wrote {out}: {graph.op_count:,} ops, digest {graph.digest}")
    return 0


@graphs_app.command
def build(name: str, *, out: Path, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Build a workload with TensorFlow, or generate a graph of a family, and write it.

    Parameters
    ----------
    name
        A workload such as rnnlm-2 (seconds to a minute), or FAMILY:SEED[:OPS] such as
        transformer:17:3000.
    out
        The file to write: with the ending .pb a GraphDef, without any ending the folder of a
        SavedModel, both for workloads only; otherwise a graphwright graph, by custom .gwgraph.
    json
        Print one JSON object instead of text.
    """
    from graphs.errors import ModelError
    from graphs.families.reference import graph_of_reference, is_reference
    from graphs.graph_file import write_graph

    tensorflow = out.suffix in {".pb", ""}
    if is_reference(name):
        if tensorflow:
            raise ModelError(
                f"{name}: a generated graph is no TensorFlow model; write it to a file "
                "with the ending .gwgraph"
            )
        graph = graph_of_reference(name)
        write_graph(graph, out)
    else:
        from graphs.workloads.registry import build_workload, graph_of_workload

        workload = build_workload(name)
        graph = graph_of_workload(name, workload)
        if tensorflow:
            from graphs.workloads.export import write_graph_def, write_saved_model

            (write_graph_def if out.suffix else write_saved_model)(workload, out)
        else:
            write_graph(graph, out)
    values = {"graph": graph.name, "digest": graph.digest, "ops": graph.op_count, "file": str(out)}
    if json:
        print_json(values)
    else:
        print_text(f"wrote {out}: {graph.op_count:,} ops, digest {graph.digest}")
    return 0
