"""From an instance and the plan that ran last to what the policy reads."""

from dataclasses import dataclass, replace

import numpy as np

from envs.episodes import Prepared
from envs.features.groups import (
    GROUP_COLUMNS,
    GROUP_PAIR_COLUMNS,
    GroupFeatures,
    Groups,
    group_features,
    make_groups,
)
from envs.features.observation import Observation, Previous, observe
from envs.features.static_features import (
    DEVICE_FEATURES,
    EDGE_FEATURES,
    GRAPH_FEATURES,
    LINK_FEATURES,
    OP_FEATURES,
    PAIR_FEATURES,
    StaticFeatures,
)
from envs.instance import Instance

#: What a policy that does not read the trace still knows of the previous plan: the plan itself.
_PLAN_GROUP_COLUMNS = ("level", "op_count", "seconds", "is_split")
_PLAN_PAIR_COLUMNS = (
    "seconds", "pace", "is_here", "pull_seconds", "push_seconds", "communication_change",
    "inputs_here", "outputs_here",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class View:
    """One graph as the policy sees it."""

    observation: Observation
    groups: Groups
    features: GroupFeatures


@dataclass(frozen=True, eq=False)
class GroupedInstance:
    """What all episodes of an instance share, and the groups in which the policy decides."""

    prepared: Prepared
    groups: Groups

    @property
    def instance(self) -> Instance:
        return self.prepared.instance

    @property
    def static(self) -> StaticFeatures:
        return self.prepared.static


def group_instance(prepared: Prepared, group_sizes: tuple[int, ...], seed: int) -> GroupedInstance:
    """Work out nested groups; `group_sizes` empty means single units only."""
    return GroupedInstance(prepared, make_groups(prepared.instance.problem, seed, group_sizes))


def look(subject: GroupedInstance, previous: Previous | None, reads_trace: bool = True) -> View:
    """What the policy sees; without the trace, all columns that only a trace gives are zero."""
    seen = observe(subject.instance, previous, subject.static)
    features = group_features(
        subject.instance.problem,
        subject.groups,
        previous,
        seen.ops[:, len(OP_FEATURES) :],
        seen.pairs[:, :, len(PAIR_FEATURES) :],
    )
    if reads_trace or previous is None:
        return View(seen, subject.groups, features)
    groups, pairs = features.groups.copy(), features.pairs.copy()
    groups[:, [name not in _PLAN_GROUP_COLUMNS for name in GROUP_COLUMNS]] = 0.0
    pairs[:, :, [name not in _PLAN_PAIR_COLUMNS for name in GROUP_PAIR_COLUMNS]] = 0.0
    blind = replace(
        seen,
        ops=_first(seen.ops, len(OP_FEATURES)),
        edges=_first(seen.edges, len(EDGE_FEATURES)),
        pairs=_first(seen.pairs, len(PAIR_FEATURES)),
        devices=_first(seen.devices, len(DEVICE_FEATURES)),
        links=_first(seen.links, len(LINK_FEATURES)),
        graph=_first(seen.graph, len(GRAPH_FEATURES)),
    )
    return View(blind, subject.groups, replace(features, groups=groups, pairs=pairs))


def _first(values: np.ndarray, columns: int) -> np.ndarray:
    """All but the first columns set to zero."""
    kept = values.copy()
    kept[..., columns:] = 0.0
    return kept
