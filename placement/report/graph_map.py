"""The graph drawn coarsely: groups of ops by their names, opened down to single ops."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from placement.report.blocks import Map, Section, Text, device_colour, milliseconds
from placement.report.group_names import GroupNames, Run, joined, spanned
from placement.report.reported_plan import ReportedPlan
from simulator.traces.trace import Trace

#: A group of at most so many ops shows them all.
_LEAF_OPS = 40
_MOST_CHILDREN = 32
#: Fewer ops are no group of their own.
_SMALLEST_GROUP = 3
#: A group that computes more than this share of its parent is opened in its place.
_LARGE_SHARE = 0.3
_MOST_EDGES = 60
_WHOLE = "whole graph"
_SEPARATORS = re.compile(r"[/.]")


@dataclass
class _Group:
    name: str
    ops: list[int]
    children: list["_Group"] = field(default_factory=list)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)
    """Bytes between children (or ops, in a leaf) by their positions."""
    run: Run | None = None
    """Where it is, if it is but a stretch of ops."""


def map_section(reported: ReportedPlan) -> Section:
    """Ops grouped by the parts of their names; long lists cut into runs in topological order."""
    trace = reported.trace
    graph = trace.graph
    parts = [[part for part in _SEPARATORS.split(name) if part] for name in graph.op_names]
    names = GroupNames(parts, graph.op_types, trace.end - trace.start)
    root = _group(_WHOLE, list(range(graph.op_count)), names, 0)
    _connect(root, trace)
    document = {
        "devices": list(reported.device_names),
        "colours": [device_colour(index) for index in range(len(reported.device_names))],
        "types": (types := sorted(set(graph.op_types))),
        "root": _plain(root, trace, {name: index for index, name in enumerate(types)}),
    }
    words = (
        "Each mark is a group of ops, in the colour of the device that computes most of it, from "
        "left to right by when it runs; its size grows with its compute time. Lines are what is "
        "read between groups, dark where devices differ. Open a group with a click, or with its "
        "button in the list."
    )
    return Section("map", "Graph", [Text(words), Map(document, "Groups of ops by device and time")])


def _group(name: str, ops: list[int], names: GroupNames, depth: int) -> _Group:
    """A tree without chains of single children; at most `_MOST_CHILDREN` on a level."""
    if len(ops) <= _LEAF_OPS:
        return _Group(name, ops)
    parts = names.parts
    by_part: dict[str, list[int]] = {}
    while True:
        by_part = {}
        for op in ops:
            # The last part tells ops apart, not groups.
            key = parts[op][depth] if depth < len(parts[op]) - 1 else ""
            by_part.setdefault(key, []).append(op)
        if len(by_part) > 1 or "" in by_part:
            break
        only = names.of_part(ops[0], depth)
        name, depth = only if name == _WHOLE else joined(name, only), depth + 1
    loose = by_part.pop("", [])
    for key in [key for key, members in by_part.items() if len(members) < _SMALLEST_GROUP]:
        loose += by_part.pop(key)
    loose.sort()
    children = [
        _group(names.of_part(members[0], depth), members, names, depth + 1)
        for members in by_part.values()
    ]
    children += _runs(loose, names, depth)
    total = float(names.lasting[ops].sum())
    opened: list[_Group] = []
    for child in children:  # one mark for half of the time, such as all gradients, says little
        if child.children and float(names.lasting[child.ops].sum()) > _LARGE_SHARE * total:
            for inner in child.children:
                inner.name, inner.run = joined(child.name, inner.name), None
            opened.extend(child.children)
        else:
            opened.append(child)
    return _bundle(name, ops, opened, names, depth)


def _runs(ops: list[int], names: GroupNames, depth: int) -> list[_Group]:
    """Ops without a common name, cut in topological order."""
    if not ops:
        return []
    count = -(-len(ops) // _LEAF_OPS)
    cuts = [cut.tolist() for cut in np.array_split(np.array(ops), count)]
    runs = [Run(number, number, count) for number in range(1, count + 1)]
    return [
        _Group(names.of_run(cut, run, depth), cut, run=run)
        for cut, run in zip(cuts, runs, strict=True)
    ]


def _bundle(
    name: str, ops: list[int], children: list[_Group], names: GroupNames, depth: int
) -> _Group:
    children.sort(key=lambda group: float(np.mean(group.ops)))
    if len(children) <= _MOST_CHILDREN:
        return _Group(name, ops, children)
    bundles = []
    for cut in np.array_split(np.arange(len(children)), _MOST_CHILDREN):
        members = [children[index] for index in cut]
        if len(members) == 1:
            bundles.append(members[0])
        else:
            inside = sorted(op for member in members for op in member.ops)
            runs = [member.run for member in members if member.run is not None]
            if len(runs) == len(members):
                run = Run(runs[0].first, runs[-1].last, runs[0].count)
                bundles.append(_Group(names.of_run(inside, run, depth), inside, members, run=run))
            else:
                title = spanned([member.name for member in members if member.run is None])
                bundles.append(_bundle(title, inside, members, names, depth))
    return _Group(name, ops, bundles)


def _connect(root: _Group, trace: Trace) -> None:
    """Add up what is read between the children of each group."""
    graph = trace.graph
    groups: list[_Group] = []
    above: list[int] = []
    position: list[int] = []
    leaf_of = np.zeros(graph.op_count, np.int64)
    place_of = np.zeros(graph.op_count, np.int64)
    stack = [(root, -1, 0)]
    while stack:
        group, parent, at = stack.pop()
        index = len(groups)
        groups.append(group)
        above.append(parent)
        position.append(at)
        if group.children:
            stack.extend((child, index, number) for number, child in enumerate(group.children))
        else:
            leaf_of[group.ops] = index
            place_of[group.ops] = np.arange(len(group.ops))
    depth = [0] * len(groups)
    for index in range(1, len(groups)):
        depth[index] = depth[above[index]] + 1
    sizes = graph.tensor_bytes[graph.edge_tensors]
    sources = graph.tensor_producers[graph.edge_tensors]
    for edge in np.flatnonzero(sizes > 0).tolist():
        a, b = int(sources[edge]), int(graph.consumers[edge])
        left, right = int(leaf_of[a]), int(leaf_of[b])
        at_left, at_right = int(place_of[a]), int(place_of[b])
        while left != right:
            if depth[left] >= depth[right]:
                left, at_left = above[left], position[left]
            else:
                right, at_right = above[right], position[right]
        if at_left != at_right:
            key = (at_left, at_right)
            groups[left].edges[key] = groups[left].edges.get(key, 0) + int(sizes[edge])


def _plain(group: _Group, trace: Trace, types: dict[str, int]) -> dict[str, Any]:
    """Short keys and whole microseconds: large graphs have many groups."""
    ops = np.array(group.ops)
    lasting = trace.end[ops] - trace.start[ops]
    per_device = np.bincount(trace.devices[ops], lasting, trace.cluster.device_count)
    if not per_device.any():
        per_device = np.bincount(
            trace.devices[ops], np.full(len(ops), 1e-12), trace.cluster.device_count
        )
    device = int(per_device.argmax())
    weights = np.maximum(lasting, 1e-12)
    largest = sorted(group.edges.items(), key=lambda item: -item[1])[:_MOST_EDGES]
    result: dict[str, Any] = {
        "n": group.name,
        "o": len(group.ops),
        "t": milliseconds(float(lasting.sum())),
        "d": device,
        "p": round(100 * float(per_device[device] / max(per_device.sum(), 1e-300))),
        "x": milliseconds(float((trace.start[ops] * weights).sum() / weights.sum())),
        "e": [[a, b, size] for (a, b), size in largest],
    }
    if group.children:
        result["c"] = [_plain(child, trace, types) for child in group.children]
    else:
        names = [trace.graph.op_names[op] for op in group.ops]
        shared = _shared_prefix(names)
        result["f"] = shared
        result["l"] = [
            [
                name[len(shared) :],
                types[trace.graph.op_types[op]],
                int(trace.devices[op]),
                milliseconds(float(trace.start[op])),
                milliseconds(float(trace.end[op] - trace.start[op])),
            ]
            for name, op in zip(names, group.ops, strict=True)
        ]
    return result


def _shared_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a slash."""
    first, last = min(names), max(names)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[: first.rfind("/", 0, length) + 1]
