"""The work of TensorFlow ops, control flow with its bodies included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.costs.tensorflow_ops import COST_ATTRIBUTES, ESTIMATED, TENSORFLOW_OPS
from graphs.costs.work import OpCost, Signature, TensorSpec, Work
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.control_flow import (
    COMPOSITE_OPS,
    LOOP_FRAME,
    Body,
    bodies,
    total_work,
)
from graphs.importers.tensorflow_models.dimensions import Dimensions
from graphs.importers.tensorflow_models.functions import Library, inline_calls
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode, parse_nodes
from graphs.importers.tensorflow_models.shapes import Specs, infer_specs
from graphs.kinds import DType, OpKind

_MAX_NESTING = 32

Outputs = Mapping[str, tuple[TensorSpec, ...]]


@dataclass
class WorkEstimator:
    """Works of the ops of one graph; keeps count of what it had to estimate."""

    library: Library
    versions: Any
    """The GraphDef's version record, under which bodies are inferred."""
    estimated: Counter[str] = field(default_factory=Counter)
    """Op types without a formula, and how many ops there are."""
    composite: Counter[str] = field(default_factory=Counter)
    """Control-flow op types, and how many ops there are."""
    uncounted_loops: int = 0
    """Loops whose number of trips is decided at run time."""
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

    def cost(self, node: TensorflowNode) -> OpCost:
        """The kind and formula of a node; op types without one are counted."""
        if node.op_type in COMPOSITE_OPS:
            return OpCost(OpKind.CONTROL_FLOW, ESTIMATED.formula)
        cost = TENSORFLOW_OPS.get(node.op_type)
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
        specs: Specs,
        nodes: Mapping[str, TensorflowNode],
    ) -> Work:
        """The work of a node of `nodes`; `specs` also has those of loop frames' members."""
        if node.op_type == LOOP_FRAME:
            self.composite[node.op_type] += 1
            self.uncounted_loops += 1
            return total_work(self._parts({m.name: m for m in node.members}, specs), 1)
        if node.op_type in COMPOSITE_OPS:
            return self._branching_work(node, specs, nodes, 0)
        if kind is OpKind.SHAPE:
            return Work()
        return self._plain_work(node, inputs, outputs)

    def _plain_work(
        self, node: TensorflowNode, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> Work:
        attributes = _attributes(node.definition)
        key = (node.op_type, tuple(inputs), tuple(outputs), tuple(attributes.items()))
        if key not in self._works:
            formula = TENSORFLOW_OPS.get(node.op_type, ESTIMATED).formula
            signature = Signature(node.op_type, inputs, outputs, attributes)
            try:
                self._works[key] = formula(signature)
            except (IndexError, KeyError, ValueError, ZeroDivisionError):
                # Shapes of unknown rank do not fit the formula; the tensors' sizes still do.
                self.estimated[node.op_type] += 1
                self._works[key] = ESTIMATED.formula(signature)
        return self._works[key]

    def _parts(
        self, nodes: Mapping[str, TensorflowNode], specs: Specs, depth: int = 0
    ) -> list[tuple[Work, Sequence[TensorSpec]]]:
        parts: list[tuple[Work, Sequence[TensorSpec]]] = []
        for node in nodes.values():
            if node.op_type in COMPOSITE_OPS:
                work = self._branching_work(node, specs, nodes, depth + 1)
            else:
                self.cost(node)
                inputs = [self.spec(specs.outputs, endpoint) for endpoint in node.inputs]
                work = self._plain_work(node, inputs, specs.outputs[node.name])
            parts.append((work, specs.outputs[node.name]))
        return parts

    def _branching_work(
        self, node: TensorflowNode, specs: Specs, nodes: Mapping[str, TensorflowNode], depth: int
    ) -> Work:
        """The work of a loop's condition and body, or of the dearest branch."""
        if depth > _MAX_NESTING:
            raise ModelError(
                f"{self.library.origin}: control flow is nested more than {_MAX_NESTING} deep at "
                f"{node.name!r}; recursive functions cannot become a finite graph"
            )
        self.composite[node.op_type] += 1
        alternatives = []
        for alternative in bodies(node, self.library, nodes):
            works = [self._body_work(node, body, specs, nodes, depth) for body in alternative]
            alternatives.append(total_work([(work, ()) for work in works], 1))
            if "While" in node.op_type and alternative[0].trips == 1:
                self.uncounted_loops += 1
        return max(alternatives, key=lambda work: (work.flops, work.bytes_read), default=Work())

    def _body_work(
        self,
        node: TensorflowNode,
        body: Body,
        specs: Specs,
        outer: Mapping[str, TensorflowNode],
        depth: int,
    ) -> Work:
        # If and Case take the condition first and do not pass it on.
        passed = node.inputs[len(node.inputs) - len(body.arguments) :]
        if len(passed) != len(body.arguments):
            raise ModelError(
                f"{self.library.origin}: {node.name!r} passes {len(node.inputs)} tensors to a "
                f"function that takes {len(body.arguments)}"
            )
        nodes = dict(body.nodes)
        known: dict[str, TensorSpec] = {}
        for argument, (source, number) in zip(body.arguments, passed, strict=True):
            spec = self.spec(specs.outputs, (source, number))
            origin = outer.get(source)
            if origin is not None and origin.op_type == "VarHandleOp":
                # A handle's placeholder would hide what the variable's values look like.
                nodes[argument] = TensorflowNode(argument, "VarHandleOp", (), (), origin.definition)
            elif spec.dtype is not DType.RESOURCE and f"{source}:{number}" not in specs.incomplete:
                known[argument] = spec
        definitions, _ = inline_calls(
            [inner.definition for inner in nodes.values()], self.library, list(nodes)
        )
        if len(definitions) != len(nodes):
            handles = {
                name: inner for name, inner in nodes.items() if inner.op_type == "VarHandleOp"
            }
            nodes = {**parse_nodes(definitions, self.library.origin), **handles}
        inner_specs = infer_specs(nodes, self.versions, self.library, Dimensions({}), known)
        return total_work(self._parts(nodes, inner_specs, depth), body.trips)


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
