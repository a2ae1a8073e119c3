"""Keeps together what hands on tensors whose element type nothing in the model tells.

The inputs of a part must declare types, so that such a tensor may not cross from part to part.
"""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from graphs.importers.onnx_models.steps import OnnxStep, OnnxSteps

Unit = Sequence[OnnxStep]


def inseparable_units(steps: OnnxSteps) -> list[Unit]:
    """Steps in groups that stay in one part each, in an order in which the groups can run.

    A group holds the readers and the maker of a tensor of unknown type, and whatever lies on a
    way from one of them to another. Groups that wait for each other become one.
    """
    makers = {name: i for i, s in enumerate(steps.steps) for name in s.node.output if name}
    sources = [{makers[name] for name in step.reads if name in makers} for step in steps.steps]
    links = [
        (makers[name], index)
        for index, step in enumerate(steps.steps)
        for name in step.reads
        if name in makers and steps.values[name].guessed_type
    ]
    if not links:
        return [(step,) for step in steps.steps]
    groups = _connected([{a, b} for a, b in links])
    while True:
        groups = _connected([_between(group, sources) for group in groups])
        order = _order(groups, sources)
        if order is not None:
            return [tuple(steps.steps[i] for i in sorted(unit)) for unit in order]
        groups = [set().union(*groups)]


def _connected(sets: Sequence[set[int]]) -> list[set[int]]:
    """Sets that share a member become one."""
    groups: list[set[int]] = []
    for one in sets:
        touching = [group for group in groups if group & one]
        groups = [group for group in groups if not group & one]
        groups.append(one.union(*touching))
    return groups


def _between(group: set[int], sources: Sequence[set[int]]) -> set[int]:
    """The group and all steps that depend on one member and on which another depends."""
    after, before = set(group), set(group)
    for index in range(min(group), max(group) + 1):
        if sources[index] & after:
            after.add(index)
    for index in range(max(group), min(group) - 1, -1):
        if index in before:
            before.update(source for source in sources[index] if source >= min(group))
    return after & before


def _order(groups: Sequence[set[int]], sources: Sequence[set[int]]) -> list[set[int]] | None:
    """Groups and single steps, each after what it reads; None where they go in a circle."""
    unit_of = {index: {index} for index in range(len(sources))}
    key_of = {index: index for index in range(len(sources))}
    for group in groups:
        for index in group:
            unit_of[index], key_of[index] = group, min(group)
    waits = {
        key: {key_of[s] for index in unit_of[key] for s in sources[index]} - {key}
        for key in dict.fromkeys(key_of.values())
    }
    try:
        return [unit_of[key] for key in TopologicalSorter(waits).static_order()]
    except CycleError:
        return None
