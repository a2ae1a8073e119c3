"""Suites as files: a list of pairs that a user writes, or a pinned suite.

The file is YAML or JSON: a list of pairs, or a mapping with `name`, `description`, `version` and
`pairs`. A pair is `[graph, cluster]`, or a mapping with `graph`, `cluster` and, where wanted,
`headroom`. A file with a version is a pinned suite: each of its pairs also has `graph_digest`,
`cluster_digest` and `memory_bytes` (a figure per device). Model and cluster files are named by
their paths from the folder of the suite's file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs.bundled_graphs import bundled_names
from graphs.errors import GraphwrightError
from graphs.families.reference import is_reference
from graphs.file_presence import is_file, is_there
from graphs.real_graphs import PREFIX, is_real_reference, real_graphs
from placement.suites.folder import headroom_of
from placement.suites.pair import RULE, Headroom, Pair, Suite, memory_rule
from placement.suites.pin import Pin
from simulator.clusters.plain_yaml import load_plain_yaml

FORMAT = 1
SUFFIXES = (".yaml", ".yml", ".json")
_MAX_FILE_BYTES = 16 << 20
_TOP_KEYS = ("format", "name", "version", "description", "digest", "pairs")
_PINNED_KEYS = ("graph_digest", "cluster_digest", "memory_bytes")
_PAIR_KEYS = ("graph", "cluster", "headroom", *_PINNED_KEYS)


def read_suite(path: str | Path) -> Suite:
    """The suite of a file. No graph is built and no placer runs; what is known without either is
    held against the digests of a pinned suite: clusters, and real graphs by their manifest.

    Raises:
        GraphwrightError: no such file, or not of this form.
        ModelError: a real graph that is not what was pinned.
        ClusterError: no such cluster, or one that is not what was pinned.
    """
    file = Path(path)
    document = _document(file)
    if isinstance(document, list):
        document = {"pairs": document}
    if not isinstance(document, Mapping) or not isinstance(document.get("pairs"), list):
        raise GraphwrightError(f"{file}: not a suite; write a list of pairs, such as {_example()}")
    _known_keys(document, _TOP_KEYS, str(file))
    if document.get("format", FORMAT) != FORMAT:
        raise GraphwrightError(
            f"{file}: format {document['format']!r:.40}; this graphwright reads {FORMAT}"
        )
    name, version = (str(document.get(key) or "") for key in ("name", "version"))
    name = name or file.stem
    label = f"{name}@{version}" if version else ""
    pairs = tuple(
        _pair(item, f"{file}, pair {number}", file.parent, label)
        for number, item in enumerate(document["pairs"], 1)
    )
    if not pairs:
        raise GraphwrightError(f"{file}: no pairs in it; write some, such as {_example()}")
    suite = Suite(name, str(document.get("description") or f"pairs of {file}"), pairs, version)
    if document.get("digest", suite.digest) != suite.digest:
        raise GraphwrightError(
            f"{file}: its pairs have digest {suite.digest or 'none'}, but it says "
            f"{document['digest']!r:.40}: it was changed by hand, or cut off"
        )
    return suite


def suite_text(suite: Suite, folder: Path) -> str:
    """A pinned suite as JSON, a line for each pair.

    Args:
        suite: pinned, see `placement.suites.pinning`.
        folder: that the file will lie in; what lies below it is named by the path from there.
    """
    head = {
        "format": FORMAT,
        "name": suite.name,
        "version": suite.version,
        "description": suite.description,
        "digest": suite.digest,
    }
    lines = [json.dumps(_written(pair, folder)) for pair in suite.pairs]
    body = ",\n  ".join(lines)
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "pairs": [\n  {body}\n ]\n}}\n'


def _document(file: Path) -> Any:
    if not is_file(file):
        raise GraphwrightError(f"{file}: no such file; give a suite's name or file")
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise GraphwrightError(f"{file}: larger than {_MAX_FILE_BYTES} bytes; not a suite")
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else load_plain_yaml(text)
        # Escapes such as \ud800 make halves of characters, which nothing can write or digest.
        json.dumps(document, ensure_ascii=False, default=str).encode()
        return document
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise GraphwrightError(f"{file}: not a suite's YAML or JSON ({error})") from error


def _pair(item: Any, where: str, folder: Path, label: str) -> Pair:
    if isinstance(item, list) and len(item) == 2:
        item = dict(zip(("graph", "cluster"), item, strict=True))
    if not isinstance(item, Mapping):
        raise GraphwrightError(f"{where}: {item!r:.80}; write graph and cluster: {_example()}")
    _known_keys(item, _PAIR_KEYS, where)
    graph, cluster = item.get("graph"), item.get("cluster")
    if not (isinstance(graph, str) and isinstance(cluster, str) and graph and cluster):
        raise GraphwrightError(f"{where}: a pair needs graph and cluster, as texts: {_example()}")
    graph_ref, cluster_ref = _graph_ref(graph, folder), _cluster_ref(cluster, folder)
    memory_rule(cluster_ref)
    headroom = item.get("headroom")
    kinds = [kind.value for kind in Headroom]
    if headroom is not None and headroom not in kinds:
        raise GraphwrightError(
            f"{where}: headroom {headroom!r:.40}; there are {', '.join(kinds)}, or leave it out"
        )
    pin = _pin(item, where, label)
    kind = headroom_of(cluster_ref) if headroom is None else Headroom(headroom)
    pair = Pair(graph_ref, cluster_ref, kind, pin)
    if pin is not None:
        pair.cluster()
        known = real_graphs().get(graph.removeprefix(PREFIX)) if is_real_reference(graph) else None
        if known is not None:
            pin.check_graph_digest(known.digest, graph)
    return pair


def _pin(item: Mapping[str, Any], where: str, label: str) -> Pin | None:
    given = [key for key in _PINNED_KEYS if key in item]
    if not label and not given:
        return None
    if not label or len(given) < len(_PINNED_KEYS):
        raise GraphwrightError(
            f"{where}: has {', '.join(given) or 'no digests'} in a suite "
            f"{'with' if label else 'without'} a version; a pinned suite has a version, and "
            f"{', '.join(_PINNED_KEYS)} of every pair: `graphwright suites pin` writes it"
        )
    memory = item["memory_bytes"]
    if not isinstance(memory, list) or not all(type(each) is int for each in memory):
        raise GraphwrightError(f"{where}: memory_bytes is a list of whole numbers, one per device")
    return Pin(label, str(item["graph_digest"]), str(item["cluster_digest"]), tuple(memory))


def _is_name(graph: str) -> bool:
    """Whether a reference is of a graph that comes with the package, or that it generates."""
    return graph in bundled_names() or is_real_reference(graph) or is_reference(graph)


def _graph_ref(graph: str, folder: Path) -> str:
    if _is_name(graph) or not is_there(folder / graph):
        return graph
    return str(folder / graph)


def _cluster_ref(cluster: str, folder: Path) -> str:
    base, rule, factor = cluster.partition(RULE)
    return f"{folder / base}{rule}{factor}" if is_file(folder / base) else cluster


def _written(pair: Pair, folder: Path) -> Mapping[str, Any]:
    base, rule, factor = pair.cluster_ref.partition(RULE)
    graph = pair.graph_ref
    return {
        **pair.as_dict(),
        "graph": graph if _is_name(graph) else _from_folder(graph, folder),
        "cluster": f"{_from_folder(base, folder)}{rule}{factor}",
    }


def _from_folder(reference: str, folder: Path) -> str:
    """A file's path from a folder that it lies below, else its whole path; a name as it is."""
    path = Path(reference)
    if not is_there(path):
        return reference
    whole, home = path.resolve(), folder.resolve()
    return str(whole.relative_to(home)) if whole.is_relative_to(home) else str(whole)


def _known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise GraphwrightError(
            f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(known)}"
        )


def _example() -> str:
    return "- {graph: gpt2, cluster: 4xv100-pcie}"
