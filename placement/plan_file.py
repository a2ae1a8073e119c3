"""`plan.json`: a plan by op name, with what it was made for and what it promises."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from graphs.graph import Graph
from graphs.whole_files import write_whole
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError
from simulator.fusion import check_fusion
from simulator.plan import NO_HOLDS, Plan

SCHEMA_VERSION = 1
_MAX_FILE_BYTES = 256 << 20
_KEYS = {"schema_version", "graph", "cluster", "ops", "holds", "provenance", "predicted"}


@dataclass(frozen=True)
class PlanDocument:
    """What a plan file holds besides the plan."""

    plan: Plan
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Placer, seed, budget, version: what made the plan."""
    predicted: Mapping[str, Any] = field(default_factory=dict)
    """Makespan, bound and peak bytes as simulated."""


def plan_to_json(document: PlanDocument, graph: Graph, cluster: Cluster) -> str:
    """Serialise; one entry per op: name, device name, priority, fusion group or null."""
    plan = document.plan
    names = cluster.device_names
    ops = [
        [name, names[device], priority, group if group >= 0 else None]
        for name, device, priority, group in zip(
            graph.op_names,
            plan.devices.tolist(),
            plan.priorities.tolist(),
            plan.fusion.tolist(),
            strict=True,
        )
    ]
    body = {
        "schema_version": SCHEMA_VERSION,
        "graph": {"name": graph.name, "digest": graph.digest, "ops": graph.op_count},
        "cluster": {"name": cluster.name, "digest": cluster.digest, "devices": list(names)},
        "provenance": dict(document.provenance),
        "predicted": dict(document.predicted),
    }
    if plan.is_held:
        body["holds"] = {
            graph.op_names[op]: graph.op_names[after]
            for op, after in enumerate(plan.holds.tolist())
            if after >= 0
        }
    head = json.dumps(body, indent=2)
    rows = ",\n    ".join(json.dumps(row) for row in ops)
    return f'{head[:-2]},\n  "ops": [\n    {rows}\n  ]\n}}\n'


def write_plan(document: PlanDocument, graph: Graph, cluster: Cluster, path: Path) -> None:
    """Write a plan file; an existing one is replaced whole or not at all.

    Example:
        >>> plan = Plan.of(np.zeros(graph.op_count, np.int32))
        >>> write_plan(PlanDocument(plan), graph, cluster, Path("plan.json"))
        >>> read_plan(Path("plan.json"), graph, cluster).plan == plan
        True
    """
    write_whole(path, plan_to_json(document, graph, cluster))


def read_plan(path: Path, graph: Graph, cluster: Cluster) -> PlanDocument:
    """Read a plan and apply it by op name.

    A re-exported model may have gained or lost a few ops: an op without an entry follows the op
    that makes its first input, or its first reader. More than a tenth without is another graph.

    Raises:
        PlanError: not a plan file, of a newer version, for another graph or cluster.

    Example:
        >>> document = PlanDocument(Plan.of(np.ones(graph.op_count, np.int32)))
        >>> write_plan(document, graph, cluster, Path("plan.json"))
        >>> set(read_plan(Path("plan.json"), graph, cluster).plan.devices.tolist())
        {1}
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise PlanError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; not a plan file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot be read ({error})") from error
    return parse_plan(text, graph, cluster, str(path))


def parse_plan(text: str, graph: Graph, cluster: Cluster, origin: str) -> PlanDocument:
    """Like `read_plan`, from text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{origin}: not JSON ({error})") from error
    if not isinstance(body, dict) or not {"schema_version", "ops"} <= set(body):
        raise PlanError(f"{origin}: not a plan file; it needs schema_version and ops")
    if body["schema_version"] != SCHEMA_VERSION:
        raise PlanError(
            f"{origin}: schema_version {body['schema_version']!r}; this graphwright reads "
            f"{SCHEMA_VERSION}"
        )
    if unknown := set(body) - _KEYS:
        raise PlanError(f"{origin}: unknown key {', '.join(sorted(unknown))}")
    rows = _rows(body["ops"], origin)
    plan = _plan(rows, graph, cluster, origin, _made_for(body))
    plan = replace(plan, holds=_holds(body.get("holds", {}), graph, origin))
    plan.check(graph, cluster)
    check_fusion(graph, plan.fusion, plan.devices)
    provenance, predicted = body.get("provenance", {}), body.get("predicted", {})
    if not isinstance(provenance, dict) or not isinstance(predicted, dict):
        raise PlanError(f"{origin}: provenance and predicted must be objects")
    return PlanDocument(plan, provenance, predicted)


def dimensions_of(path: Path) -> dict[str, int]:
    """Sizes of open dimensions that a plan was made for; none where it names none.

    What is wrong with the file is `read_plan`'s to say.
    """
    dims = _provenance(path).get("dims")
    if not isinstance(dims, dict):
        return {}
    return {str(name): size for name, size in dims.items() if isinstance(size, int)}


def flag_of(path: Path, name: str) -> str | None:
    """A flag with which the model was read that a plan was made for, such as `precision` or
    `signature`; None where it names none."""
    found = _provenance(path).get(name)
    return found if isinstance(found, str) else None


def _provenance(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())["provenance"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _holds(names: Any, graph: Graph, origin: str) -> Int32[np.ndarray, " _"]:
    """What each op waits for; ops that the graph has no more wait for nothing."""
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise PlanError(f"{origin}: holds must map ops to the ops that they wait for")
    pairs = [
        (graph.op_index[op], graph.op_index[after])
        for op, after in names.items()
        if op in graph.op_index and after in graph.op_index
    ]
    if not pairs:
        return NO_HOLDS
    holds = np.full(graph.op_count, -1, np.int32)
    held, after = zip(*pairs, strict=True)
    holds[list(held)] = after
    return holds


def _made_for(body: Mapping[str, Any]) -> str:
    graph = body.get("graph")
    name = graph.get("name") if isinstance(graph, dict) else None
    return f"it was made for {name!r}" if name else "it names no graph"


_Row = tuple[str, float, int]


def _rows(ops: Any, origin: str) -> dict[str, _Row]:
    if not isinstance(ops, list):
        raise PlanError(f"{origin}: ops must be a list of [name, device, priority, group]")
    rows: dict[str, _Row] = {}
    for index, row in enumerate(ops):
        form = f"{origin}: ops[{index}] must be [name, device, priority, group or null]"
        if not isinstance(row, list) or len(row) != 4:
            raise PlanError(f"{form}; found {row!r:.80}")
        name, device, priority, group = row
        if not isinstance(name, str) or not isinstance(device, str):
            raise PlanError(f"{form}; found {row!r:.80}")
        if isinstance(priority, bool) or not isinstance(priority, int | float):
            raise PlanError(f"{form}; found priority {priority!r:.40}")
        if (isinstance(priority, int) and abs(priority) > 1 << 53) or not math.isfinite(priority):
            raise PlanError(f"{form}; found priority {priority!r:.40}")
        bad_group = isinstance(group, bool) or not isinstance(group, int | None)
        if bad_group or (group is not None and not 0 <= group < 1 << 31):
            raise PlanError(f"{form}; found group {group!r:.40}")
        if name in rows:
            raise PlanError(f"{origin}: op {name!r} has two entries")
        rows[name] = (device, float(priority), -1 if group is None else group)
    return rows


def _plan(
    rows: Mapping[str, _Row], graph: Graph, cluster: Cluster, origin: str, made_for: str
) -> Plan:
    positions = {name: index for index, name in enumerate(cluster.device_names)}
    if strange := sorted({row[0] for row in rows.values()} - set(positions)):
        raise PlanError(
            f"{origin}: device {strange[0]!r} is not in cluster {cluster.name!r}, which has "
            f"{', '.join(cluster.device_names)}"
        )
    missing = [op for op, name in enumerate(graph.op_names) if name not in rows]
    if 10 * len(missing) > graph.op_count:
        raise PlanError(
            f"{origin}: has no entry for {len(missing)} of the {graph.op_count} ops of "
            f"{graph.name!r}: a plan for another graph ({made_for})"
        )
    devices = np.full(graph.op_count, -1, np.int32)
    priorities = np.zeros(graph.op_count)
    fusion = np.full(graph.op_count, -1, np.int64)
    for op, name in enumerate(graph.op_names):
        if name in rows:
            device, priorities[op], fusion[op] = rows[name]
            devices[op] = positions[device]
    for op in missing:
        inputs = graph.inputs_of(op)
        source = int(graph.tensor_producers[inputs[0]]) if inputs.size else -1
        if source >= 0:
            devices[op], priorities[op] = devices[source], priorities[source]
    for op in reversed(missing):
        if devices[op] < 0:
            readers = [r for t in graph.outputs_of(op) for r in graph.consumers_of(t).tolist()]
            known = [reader for reader in readers if devices[reader] >= 0]
            devices[op] = devices[known[0]] if known else 0
            priorities[op] = priorities[known[0]] if known else 0.0
    _follow_groups(graph, devices, missing)
    if fusion.max() >= graph.op_count:  # numbers so large would cost memory, and only tell apart
        _, compact = np.unique(fusion, return_inverse=True)
        fusion = compact - 1 if (fusion < 0).any() else compact
    return Plan.of(devices, priorities, fusion.astype(np.int32))


def _follow_groups(graph: Graph, devices: np.ndarray, missing: list[int]) -> None:
    """Ops without an entry go where the rest of their colocation group is."""
    absent = set(missing)
    home = {
        int(group): int(devices[op])
        for op, group in enumerate(graph.colocation)
        if group >= 0 and op not in absent
    }
    for op in missing:
        devices[op] = home.get(int(graph.colocation[op]), devices[op])
