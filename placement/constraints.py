"""What a user demands of a plan: pins, forbidden devices, colocation, memory caps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from graphs.errors import GraphwrightError
from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.clusters.plain_yaml import load_plain_yaml
from simulator.errors import ClusterError, PlanError
from simulator.plan import Plan
from simulator.units import BYTES, parse_quantity


class ConstraintError(GraphwrightError):
    """Constraints that name nothing, or contradict each other or the model."""


@dataclass(frozen=True)
class Constraints:
    """Rules by op name: an exact name, or a regular expression that matches the whole name."""

    pins: Mapping[str, str] = field(default_factory=dict)
    """Ops to the device that they must be on."""
    forbidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ops to devices that they must not be on."""
    colocated: tuple[str, ...] = ()
    """For each, all ops that match share a device."""
    memory_caps: Mapping[str, int] = field(default_factory=dict)
    """Device to the bytes that a plan may use of it."""

    def capped(self, cluster: Cluster) -> Cluster:
        """The cluster as far as plans may use its memory.

        Raises:
            ConstraintError: a cap for an unknown device, or not above zero.
        """
        for name, cap in self.memory_caps.items():
            _device(cluster, name, "memory cap")
            if cap <= 0:
                raise ConstraintError(f"memory cap of {name} is {cap} bytes; it must be above zero")
        devices = tuple(
            replace(
                device,
                memory_bytes=min(
                    device.memory_bytes, self.memory_caps.get(device.name, device.memory_bytes)
                ),
            )
            for device in cluster.devices
        )
        return replace(cluster, devices=devices)

    def allowed(self, graph: Graph, cluster: Cluster) -> Bool[np.ndarray, "ops devices"]:
        """Which devices the pins and prohibitions leave to each op.

        Raises:
            ConstraintError: a rule that matches no op, names no device, or leaves an op none.
        """
        allowed = np.ones((graph.op_count, cluster.device_count), bool)
        for pattern, name in self.pins.items():
            others = np.arange(cluster.device_count) != _device(cluster, name, "pin")
            allowed[np.ix_(_matching(graph, pattern, "pin"), others)] = False
        for pattern, names in self.forbidden.items():
            ops = _matching(graph, pattern, "forbidden devices")
            for name in names:
                allowed[ops, _device(cluster, name, "forbidden devices")] = False
        stuck = np.flatnonzero(~allowed.any(axis=1))
        if stuck.size:
            raise ConstraintError(
                f"constraints leave no device for op {graph.op_names[stuck[0]]!r}; "
                "drop a pin or a forbidden device"
            )
        return allowed

    def groups(self, graph: Graph) -> list[np.ndarray]:
        """Indices of the ops that each colocation rule ties together."""
        return [_matching(graph, pattern, "colocation") for pattern in self.colocated]

    def check(self, graph: Graph, cluster: Cluster, plan: Plan) -> None:
        """Raise `PlanError` where a plan breaks a rule (memory is the simulator's to check)."""
        allowed = self.allowed(graph, cluster)
        broken = np.flatnonzero(~allowed[np.arange(graph.op_count), plan.devices])
        if broken.size:
            op = int(broken[0])
            raise PlanError(
                f"op {graph.op_names[op]!r} is on {cluster.device_names[plan.devices[op]]}, which "
                "the constraints forbid"
            )
        for pattern, ops in zip(self.colocated, self.groups(graph), strict=True):
            if len(set(plan.devices[ops].tolist())) > 1:
                raise PlanError(f"ops that match {pattern!r} must share a device, but do not")


def _device(cluster: Cluster, name: str, what: str) -> int:
    try:
        return cluster.device_index(name)
    except ClusterError as error:
        raise ConstraintError(f"{what}: {error}") from error


def _matching(graph: Graph, pattern: str, what: str) -> np.ndarray:
    if pattern in graph.op_index:
        return np.array([graph.op_index[pattern]])
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConstraintError(
            f"{what}: {pattern!r} is neither an op nor a regular expression ({error})"
        ) from error
    matching = [i for i, name in enumerate(graph.op_names) if expression.fullmatch(name)]
    if not matching:
        example = ", ".join(repr(name) for name in graph.op_names[:3])
        raise ConstraintError(f"{what}: {pattern!r} matches no op; names look like {example}")
    return np.array(matching)


_KEYS = {"pins", "forbidden", "colocated", "memory"}


def load_constraints(path: Path) -> Constraints:
    """Read constraints from YAML with the keys `pins`, `forbidden`, `colocated`, `memory`.

    Raises:
        ConstraintError: not YAML, object tags, unknown keys, values of another form.

    Example:
        >>> _ = Path("rules.yaml").write_text("pins: {'*embedding*': v100:0}")
        >>> len(load_constraints(Path("rules.yaml")).pins)
        1
    """
    try:
        document = load_plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConstraintError(f"{path}: not a plain YAML file ({error})") from error
    if document is None:
        return Constraints()
    if not isinstance(document, dict) or set(document) - _KEYS:
        unknown = sorted(map(str, set(document) - _KEYS)) if isinstance(document, dict) else []
        raise ConstraintError(
            f"{path}: expected keys among {', '.join(sorted(_KEYS))}"
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    pins = _table(document, "pins", path)
    forbidden = _table(document, "forbidden", path)
    colocated = document.get("colocated") or []
    if not isinstance(colocated, list):
        raise ConstraintError(f"{path}: colocated must be a list of names or patterns")
    return Constraints(
        pins={str(key): str(value) for key, value in pins.items()},
        forbidden={str(key): _names(value) for key, value in forbidden.items()},
        colocated=tuple(str(pattern) for pattern in colocated),
        memory_caps={
            str(key): int(parse_quantity(value, BYTES, f"{path}: memory of {key}"))
            for key, value in _table(document, "memory", path).items()
        },
    )


def _table(document: Mapping[str, Any], key: str, path: Path) -> Mapping[Any, Any]:
    value = document.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConstraintError(f"{path}: {key} must map names to values")
    return value


def _names(value: Any) -> tuple[str, ...]:
    return (
        tuple(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else (str(value),)
    )
