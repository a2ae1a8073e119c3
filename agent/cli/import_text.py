"""What imports did not know, said beside every figure that rests on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.output import print_text
from graphs.file_presence import is_there

if TYPE_CHECKING:
    from graphs.graph import Graph
    from placement.suites import Pair


def print_import(graph: "Graph") -> None:
    """One line for people."""
    from graphs.import_gaps import import_gaps

    print_text(import_gaps(graph).sentence())


def import_values(graph: "Graph") -> Mapping[str, Any]:
    """The same for programs."""
    from graphs.import_gaps import import_gaps

    return import_gaps(graph).as_dict()


def check_models(
    pairs: "Sequence[Pair]", allow_unknown: bool, quiet: bool
) -> Mapping[str, Mapping[str, Any]]:
    """Say what is unknown of each model file among the pairs of a suite; hold pinned pairs against
    their digests.

    Returns:
        what `--json` prints, by file.

    Raises:
        ModelError: a file that is no model, one of which too little is known, or a graph that is
            not what was pinned.
        ClusterError: a cluster that is not what was pinned.
    """
    from graphs.import_gaps import check_known, import_gaps
    from placement.suites import check_pins

    check_pins(pairs)
    found = {}
    for pair in {pair.graph_ref: pair for pair in pairs}.values():
        if not is_there(pair.graph_ref):
            continue
        graph = pair.graph()
        if not allow_unknown:
            check_known(graph, pair.graph_ref)
        gaps = import_gaps(graph)
        found[pair.graph_ref] = gaps.as_dict()
        if not quiet:
            print_text(f"{Path(pair.graph_ref).name}: {gaps.sentence()}")
    return found
