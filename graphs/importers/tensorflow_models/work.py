"""The work of TensorFlow ops, control flow with its bodies included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.costs.tensorflow_ops import (
    COST_ATTRIBUTES,
    ESTIMATED,
    OPAQUE_OPS,
    TENSORFLOW_OPS,
)
from graphs.costs.work import FORMULA_ERRORS, OpCost, Signature, TensorSpec, Work
from graphs.errors import ModelError
from graphs.importers.stablehlo.call_modules import CALL_MODULE, ReadModule
from graphs.importers.tensorflow_models.bodies import Bodies
from graphs.importers.tensorflow_models.control_flow import (
    COMPOSITE_OPS,
    LOOP_FRAME,
    LOOPS,
    Body,
    total_work,
)
from graphs.importers.tensorflow_models.frames import Frames, Stack
from graphs.importers.tensorflow_models.functions import Library, calls_nothing
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.importers.tensorflow_models.shapes import Scope
from graphs.kinds import OpKind

Outputs = Mapping[str, tuple[TensorSpec, ...]]


@dataclass
class WorkEstimator:
    """Works of the ops of one graph; keeps count of what it had to estimate."""

    library: Library
    bodies: Bodies
    """What is known inside of functions."""
    frames: Frames
    """The version-1 loops of the graph."""
    estimated: Counter[str] = field(default_factory=Counter)
    """Op types without a formula, and how many ops there are."""
    opaque: Counter[str] = field(default_factory=Counter)
    """Op types that hide what they do, and how many ops there are."""
    composite: Counter[str] = field(default_factory=Counter)
    """Types of ops that stand for others which can be read, and how many ops there are."""
    custom_calls: Counter[str] = field(default_factory=Counter)
    """Targets of the custom calls in StableHLO modules, and how many there are."""
    uncounted_loops: int = 0
    """Loops whose number of trips is decided at run time."""
    unknown_inside: dict[str, None] = field(default_factory=dict)
    """Tensors of function bodies whose shape was estimated, behind the name of their op."""
    _works: dict[Any, Work] = field(default_factory=dict)
    """By signature: unrolled networks repeat a few signatures thousands of times."""

    def spec(self, outputs: Outputs, endpoint: Endpoint) -> TensorSpec:
        """The spec of a tensor.

        Raises:
            ModelError: its node has no such output.
        """
        name, number = endpoint
        if number >= len(outputs[name]):
            raise ModelError(
                f"{self.library.origin}: tensor '{name}:{number}' is consumed, but node {name!r} "
                f"has {len(outputs[name])} outputs"
            )
        return outputs[name][number]

    def is_opaque(self, node: TensorflowNode) -> bool:
        """Whether a node hides what it does."""
        return node.op_type in OPAQUE_OPS or calls_nothing(node.definition, self.library)

    def module(self, node: TensorflowNode, inputs: Sequence[TensorSpec]) -> ReadModule | None:
        """The StableHLO module that a node runs, if it runs one that can be read."""
        if node.op_type != CALL_MODULE:
            return None
        return self.bodies.modules.read(node.definition, inputs)

    def cost(self, node: TensorflowNode, inputs: Sequence[TensorSpec]) -> OpCost:
        """The kind and formula of a node; op types without one are counted."""
        if node.op_type in COMPOSITE_OPS or self.module(node, inputs) is not None:
            return OpCost(OpKind.CONTROL_FLOW, ESTIMATED.formula)
        cost = TENSORFLOW_OPS.get(node.op_type)
        if cost is None and self.is_opaque(node):
            return ESTIMATED
        if cost is None:
            self.estimated[node.op_type] += 1
            return ESTIMATED
        return cost

    def work(
        self,
        node: TensorflowNode,
        kind: OpKind,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        scope: Scope,
    ) -> Work:
        """The work of a node; `scope` is the graph's, loops not collapsed."""
        if node.op_type == LOOP_FRAME:
            self.composite[node.op_type] += 1
            return self._frame_work(node, scope)
        if node.op_type in COMPOSITE_OPS:
            return self._branching_work(node, scope)
        if kind is OpKind.SHAPE:
            return Work()
        return self._plain_work(node, inputs, outputs)

    def _frame_work(self, node: TensorflowNode, scope: Scope) -> Work:
        """The work of a version-1 loop: each member as often as all loops around it run."""
        members: dict[Stack, dict[str, TensorflowNode]] = {}
        for member, stack in zip(node.members, node.frames, strict=True):
            members.setdefault(stack, {})[member.name] = member
        works = []
        for stack, inside in members.items():
            trips = 1
            for depth in range(1, len(stack) + 1):
                counted = self.frames.trips(stack[:depth])
                trips *= 1 if counted is None else counted
            self.uncounted_loops += self.frames.trips(stack) is None
            works.append((total_work(self._parts(inside, scope), trips), ()))
        return total_work(works, 1)

    def _plain_work(
        self, node: TensorflowNode, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> Work:
        module = self.module(node, inputs)
        if module is not None:
            return self._module_work(node, module)
        if self.is_opaque(node):
            self.opaque[node.op_type] += 1
            return ESTIMATED.formula(Signature(node.op_type, inputs, outputs))
        attributes = _attributes(node.definition)
        key = (node.op_type, tuple(inputs), tuple(outputs), tuple(attributes.items()))
        if key not in self._works:
            formula = TENSORFLOW_OPS.get(node.op_type, ESTIMATED).formula
            signature = Signature(node.op_type, inputs, outputs, attributes)
            try:
                self._works[key] = formula(signature)
            except FORMULA_ERRORS:
                # Shapes of unknown rank do not fit the formula; the tensors' sizes still do.
                self.estimated[node.op_type] += 1
                self._works[key] = ESTIMATED.formula(signature)
        return self._works[key]

    def _module_work(self, node: TensorflowNode, module: ReadModule) -> Work:
        """The work of a StableHLO module; what it hides is counted."""
        cost = module.cost
        self.composite[node.op_type] += 1
        self.custom_calls.update(cost.opaque)
        self.estimated.update({f"stablehlo.{op}": count for op, count in cost.estimated.items()})
        self.uncounted_loops += cost.uncounted_loops
        return cost.work

    def _parts(
        self, nodes: Mapping[str, TensorflowNode], scope: Scope
    ) -> list[tuple[Work, Sequence[TensorSpec]]]:
        outputs = scope.specs.outputs
        parts: list[tuple[Work, Sequence[TensorSpec]]] = []
        for node in nodes.values():
            if node.op_type in COMPOSITE_OPS:
                work = self._branching_work(node, scope)
            else:
                inputs = [self.spec(outputs, endpoint) for endpoint in node.inputs]
                self.cost(node, inputs)
                work = self._plain_work(node, inputs, outputs[node.name])
            parts.append((work, outputs[node.name]))
        return parts

    def _branching_work(self, node: TensorflowNode, scope: Scope) -> Work:
        """The work of a loop's condition and body, or of the dearest branch."""
        self.composite[node.op_type] += 1
        trips = 1
        if node.op_type in LOOPS:
            counted = self.bodies.trips(node, scope)
            self.uncounted_loops += counted is None
            trips = 1 if counted is None else counted
        alternatives = []
        for alternative in self.bodies.alternatives(node):
            works = [(self._body_work(node, body, scope), ()) for body in alternative]
            alternatives.append(total_work(works, trips))
        return max(alternatives, key=lambda work: (work.flops, work.bytes_read), default=Work())

    def _body_work(self, node: TensorflowNode, body: Body, scope: Scope) -> Work:
        inner = self.bodies.enter(node, body, scope)
        if inner is None:
            raise ModelError(
                f"{self.library.origin}: {node.name!r} passes a tensor that its producer lacks"
            )
        self.unknown_inside.update((f"{node.name}/{name}", None) for name in inner.specs.unknown)
        return total_work(self._parts(inner.nodes, inner), 1)


def _attributes(definition: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in COST_ATTRIBUTES:
        if key in definition.attr:
            value = definition.attr[key]
            form = value.WhichOneof("value")
            if form == "s":
                values[key] = value.s.decode("utf-8", "replace")
            elif form == "list":
                values[key] = tuple(value.list.i)
            elif form in {"i", "f", "b"}:
                values[key] = getattr(value, form)
    return values
