"""What is known inside the functions that control-flow ops run, and of what they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.stablehlo.call_modules import CALL_MODULE, CallModules
from graphs.importers.tensorflow_models.control_flow import (
    COMPOSITE_OPS,
    LOOP_FRAME,
    LOOPS,
    Body,
    bodies,
    function_names,
    passed_to,
)
from graphs.importers.tensorflow_models.dimensions import Dimensions
from graphs.importers.tensorflow_models.elements import Elements
from graphs.importers.tensorflow_models.functions import Library
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.importers.tensorflow_models.shapes import Given, Scope, infer_scope
from graphs.importers.tensorflow_models.trips import Counter, passed, step_of, trips_of
from graphs.importers.tensorflow_models.values import Value, Values, handle_origin
from graphs.kinds import DType

_MAX_NESTING = 32


@runtime_checkable
class Outer(Protocol):
    """The graph that holds a control-flow op, as far as it is known."""

    @property
    def nodes(self) -> Mapping[str, TensorflowNode]: ...
    @property
    def values(self) -> Values: ...
    @property
    def elements(self) -> Elements: ...
    def spec(self, endpoint: Endpoint) -> TensorSpec | None: ...
    def is_estimate(self, endpoint: Endpoint) -> bool: ...


@dataclass
class Bodies:
    """Scopes of function bodies; a body that is entered with the same arguments is met again."""

    library: Library
    versions: Any
    """The GraphDef's version record, under which bodies are inferred."""
    dimensions: Dimensions
    modules: CallModules
    """What is known inside of StableHLO modules."""
    depth: int = 0
    _scopes: dict[Any, Scope] = field(default_factory=dict)
    _bodies: dict[tuple[str, ...], list[list[Body]]] = field(default_factory=dict)

    def alternatives(self, node: TensorflowNode) -> list[list[Body]]:
        """As `control_flow.bodies`."""
        key = (node.op_type, *function_names(node))
        if key not in self._bodies:
            self._bodies[key] = bodies(node, self.library)
        return self._bodies[key]

    def enter(self, node: TensorflowNode, body: Body, outer: Outer) -> Scope | None:
        """The scope of a function that an op runs; None while an argument is unknown.

        Raises:
            ModelError: functions are nested too deeply, or do not fit.
        """
        endpoints = passed_to(node, body, self.library.origin)
        kept = self._kept(node) if node.op_type in LOOPS else set(range(len(endpoints)))
        nodes = dict(body.nodes)
        specs: dict[str, TensorSpec] = {}
        values: dict[str, Value] = {}
        elements: dict[str, TensorSpec] = {}
        variables: list[str] = []
        for position, (argument, endpoint) in enumerate(
            zip(body.arguments, endpoints, strict=True)
        ):
            origin = outer.nodes.get(handle_origin(endpoint, outer.nodes)[0])
            if origin is not None and origin.op_type == "VarHandleOp":
                # A handle's placeholder would hide what the variable's values look like.
                nodes[argument] = TensorflowNode(argument, "VarHandleOp", (), (), origin.definition)
                variables.append(f"{argument}={origin.definition.attr['shape']}")
                continue
            spec = outer.spec(endpoint)
            if spec is None:
                return None
            if spec.dtype is not DType.RESOURCE:
                specs[argument] = spec
                value = outer.values.of(endpoint) if position in kept else None
                if value is not None:
                    values[argument] = value
            elif (item := outer.elements.of(endpoint)) is not None:
                elements[argument] = item
        key = (
            body.name, tuple(specs.items()), tuple(elements.items()), tuple(variables),
            tuple((name, value.tobytes()) for name, value in values.items()),
        )  # fmt: skip
        if key not in self._scopes:
            doubtful = {argument for argument, endpoint in zip(body.arguments, endpoints,
                        strict=True) if outer.is_estimate(endpoint)}  # fmt: skip
            try:
                scope = self._scope(node, nodes, Given(specs, values, elements))
            except ModelError:
                if not doubtful.intersection(specs):
                    raise
                # An estimate contradicts the body; it is read without.
                specs = {name: spec for name, spec in specs.items() if name not in doubtful}
                scope = self._scope(node, nodes, Given(specs, values, elements))
            self._scopes[key] = scope
        return self._scopes[key]

    def _scope(self, node: TensorflowNode, nodes: dict[str, TensorflowNode], given: Given) -> Scope:
        if self.depth >= _MAX_NESTING:
            raise ModelError(
                f"{self.library.origin}: control flow is nested more than {_MAX_NESTING} deep at "
                f"{node.name!r}; recursive functions cannot become a finite graph"
            )
        batch = {"batch": self.dimensions.batch}
        self.depth += 1
        try:
            return infer_scope(
                nodes, self.versions, self.library, Dimensions(batch), given,
                self.result, self.held, self.returned,
            )  # fmt: skip
        finally:
            self.depth -= 1

    def result(self, node: TensorflowNode, number: int, outer: Outer) -> TensorSpec | None:
        """The spec of what a control-flow op returns, where it can be told; else None.

        A loop's variable looks as it does when the loop begins, or after a trip where it is
        empty then; a branch's result looks as the first branch's does; a module says it.
        """
        if node.op_type == CALL_MODULE:
            arguments = [spec for e in node.inputs if (spec := outer.spec(e)) is not None]
            known = len(arguments) == len(node.inputs)
            module = self.modules.read(node.definition, arguments) if known else None
            return None if module is None else module.result(number)
        if node.op_type not in COMPOSITE_OPS or node.op_type == LOOP_FRAME:
            return None
        if node.op_type in LOOPS:
            first = outer.spec(node.inputs[number])
            if first is not None and first.elements > 0:
                return first
        body = self.alternatives(node)[0][-1]
        scope = self.enter(node, body, outer)
        return None if scope is None else scope.spec(_result(body, number))

    def held(self, node: TensorflowNode, number: int, outer: Outer) -> TensorSpec | None:
        """What a loop's body puts into the list that is its result of a number."""
        body = self.alternatives(node)[0][-1]
        scope = self.enter(node, body, outer)
        return None if scope is None else scope.elements.of(_result(body, number))

    def returned(self, node: TensorflowNode, number: int, outer: Outer) -> int | None:
        """What a loop leaves in a variable that counts its trips."""
        if node.op_type not in LOOPS:
            return None
        counter = self._counter(node, number, outer)
        trips = self.trips(node, outer) if counter is not None else None
        return None if counter is None or trips is None else counter.start + trips * counter.step

    def trips(self, node: TensorflowNode, outer: Outer) -> int | None:
        """How often a version-2 loop runs; None where its data decide."""
        condition = self.alternatives(node)[0][0]
        scope = self.enter(node, condition, outer)
        if scope is None or not condition.results:
            return None

        def counter(endpoint: Endpoint) -> Counter | None:
            name = passed(endpoint, condition.nodes)[0]
            if name not in condition.arguments:
                return None
            return self._counter(node, condition.arguments.index(name), outer)

        return trips_of(condition.results[0], condition.nodes, counter, scope.values.integer)

    def _counter(self, node: TensorflowNode, position: int, outer: Outer) -> Counter | None:
        body = self.alternatives(node)[0][1]
        start = outer.values.integer(node.inputs[position])
        if start is None or position >= len(body.results):
            return None
        scope = self.enter(node, body, outer)
        if scope is None:
            return None
        step = step_of(
            body.results[position], body.arguments[position], body.nodes, scope.values.integer
        )
        return None if step is None else Counter(start, step)

    def _kept(self, node: TensorflowNode) -> set[int]:
        """Positions of a loop's variables that no trip changes."""
        body = self.alternatives(node)[0][1]
        return {
            position
            for position, (argument, result) in enumerate(
                zip(body.arguments, body.results, strict=False)
            )
            if passed(result, body.nodes)[0] == argument
        }


def _result(body: Body, number: int) -> Endpoint:
    if number >= len(body.results):
        raise ModelError(f"function {body.name!r} returns {len(body.results)} tensors; "
                         f"result {number} is used")  # fmt: skip
    return body.results[number]
