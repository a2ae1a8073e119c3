"""`graphwright clusters`: list, show and probe clusters."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from agent.cli.output import print_json, print_lines, print_table
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file
from graphs.whole_files import write_whole

clusters_app = App(name="clusters", help="List presets, show a cluster, probe this machine.")


@clusters_app.command(name="list")
def list_clusters(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List clusters by name; any other name of the form of a preset works too.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    from simulator.cluster_file import cluster_names, load_cluster
    from simulator.units import format_bytes

    clusters = [load_cluster(name) for name in cluster_names()]
    if json:
        print_json(
            {
                "clusters": [
                    {"name": item.name, "digest": item.digest, "devices": list(item.device_names)}
                    for item in clusters
                ]
            }
        )
        return 0
    rows = [
        [
            item.name,
            ", ".join(item.device_names[:4]) + (" ..." if item.device_count > 4 else ""),
            format_bytes(float(item.memory_bytes.min())),
            _bandwidths(item.link_arrays.bytes_per_second.ravel().tolist()),
        ]
        for item in clusters
    ]
    print_table("", ["cluster", "devices", "memory", "links GB/s"], rows, left=2)
    return 0


def _bandwidths(values: list[float]) -> str:
    return ", ".join(f"{value / 1e9:g}" for value in sorted({v for v in values if v > 1})) or "none"


@clusters_app.command
def show(
    cluster: str,
    *,
    kind: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show a cluster as YAML, ready to be edited.

    Parameters
    ----------
    cluster
        A preset, a YAML file, saved output of `nvidia-smi topo -m`, or a benchmark file.
    kind
        The GPU model, for a topology matrix, which does not tell it.
    json
        Print one JSON object instead.
    """
    import yaml

    from simulator.cluster_file import dump_cluster, load_cluster
    from simulator.clusters.topology_matrix import cluster_from_topology

    if kind is not None:
        path = Path(cluster)
        if not is_file(path):
            raise GraphwrightError(f"{cluster}: --kind goes with a saved `nvidia-smi topo -m`")
        described = cluster_from_topology(path.read_text(encoding="utf-8"), path.stem, kind)
    else:
        described = load_cluster(cluster)
    if json:
        print_json({"digest": described.digest, **yaml.safe_load(dump_cluster(described))})
    else:
        print_lines(dump_cluster(described).rstrip())
    return 0


@clusters_app.command
def probe(*, out: Path | None = None, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Measure this machine's cores and the pipes between them, as a cluster YAML.

    Parameters
    ----------
    out
        Write the YAML here instead of printing it.
    json
        Print one JSON object instead.
    """
    import yaml

    from simulator.cluster_file import dump_cluster
    from simulator.clusters.probe import probe_machine

    machine = probe_machine()
    text = dump_cluster(machine)
    if out is not None:
        write_whole(out, text)
    if json:
        print_json({"digest": machine.digest, **yaml.safe_load(text)})
    else:
        print_lines(f"wrote {out}" if out is not None else text.rstrip())
    return 0
