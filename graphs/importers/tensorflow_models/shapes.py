"""Shapes and element types of a TensorFlow graph's tensors, by TensorFlow's own inference.

Where it stops, the file's own `_output_shapes`, what arrays and lists hold, or an estimate is
stated to it, and it goes on from there: so what follows an unknown size is inferred from it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import tensorflow as tf

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.completion import (
    Dims,
    Estimator,
    Pin,
    completed,
    contradict,
    declared_dims,
    followers,
    merged,
    weights_among,
)
from graphs.importers.tensorflow_models.control_flow import COMPOSITE_OPS
from graphs.importers.tensorflow_models.dimensions import Dimensions
from graphs.importers.tensorflow_models.dtypes import dtype_of
from graphs.importers.tensorflow_models.elements import READERS, Elements
from graphs.importers.tensorflow_models.functions import Library
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.importers.tensorflow_models.parts import Part, part_behind
from graphs.importers.tensorflow_models.sanitize import inferable_graph_def
from graphs.importers.tensorflow_models.values import Value, Values
from graphs.kinds import DType

_MAX_ROUNDS = 24
_REFERENCE = 100

#: Outputs that only cuDNN fills, of a size that nothing else knows.
_SCRATCH_OUTPUTS = frozenset({("FusedBatchNormV3", 5)})


@dataclass(frozen=True)
class Specs:
    """Every tensor of a graph with known dimensions, and those that were completed."""

    outputs: Mapping[str, tuple[TensorSpec, ...]]
    """Node name to its outputs."""
    unknown: tuple[str, ...]
    """Tensors whose shape was estimated, or that nothing is known of."""
    dynamic: tuple[str, ...] = ()
    """Tensors whose shape follows from such a one, and those themselves."""
    contradictions: tuple[str, ...] = ()
    """Tensors whose `_output_shapes` TensorFlow's inference contradicts."""

    @cached_property
    def incomplete(self) -> frozenset[str]:
        """Names of the tensors whose shape only the run decides."""
        return frozenset((*self.unknown, *self.dynamic))


@dataclass(frozen=True)
class Given:
    """What the caller of a function knows of its arguments, by name."""

    specs: Mapping[str, TensorSpec] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    elements: Mapping[str, TensorSpec] = field(default_factory=dict)
    """What lists and arrays hold."""


@dataclass(frozen=True)
class Scope:
    """A graph or a function body with all that is known of its tensors."""

    nodes: Mapping[str, TensorflowNode]
    specs: Specs
    values: Values
    elements: Elements

    def spec(self, endpoint: Endpoint) -> TensorSpec | None:
        """The spec of a tensor; None where its node has no such output."""
        specs = self.specs.outputs.get(endpoint[0], ())
        return specs[endpoint[1]] if endpoint[1] < len(specs) else None

    def is_estimate(self, endpoint: Endpoint) -> bool:
        """Whether a tensor's shape rests on an estimate."""
        return f"{endpoint[0]}:{endpoint[1]}" in self.specs.incomplete


#: Spec of result `number` of the function that a control-flow op runs, and of what it holds.
Results = Callable[[TensorflowNode, int, Any], TensorSpec | None]
#: What a counter is when the loop has ended that returns it as a result of a number.
Returned = Callable[[TensorflowNode, int, Any], int | None]


def infer_scope(
    nodes: Mapping[str, TensorflowNode],
    versions: Any,
    library: Library,
    dimensions: Dimensions,
    given: Given = Given(),
    results: Results | None = None,
    held: Results | None = None,
    returned: Returned | None = None,
    live_graph: Any = None,
) -> Scope:
    """Shapes by importing the graph into TensorFlow, without its large constants.

    Args:
        nodes: the graph; its NodeDefs are not changed.
        versions: the GraphDef's version record.
        library: functions that control-flow ops refer to.
        dimensions: sizes for open dimensions of the inputs; records what it is asked.
        given: what is known of a body's arguments.
        results: specs of what control-flow ops return, where TensorFlow does not say.
        held: specs of what the lists hold that control-flow ops return.
        returned: what loops leave in their counters.
        live_graph: a `tf.Graph` with these nodes, which saves importing them.

    Raises:
        ModelError: TensorFlow refuses the graph; the message carries TensorFlow's reason.
    """
    inference = _Inference(nodes, versions, library, dimensions, given, results, held, returned)
    return inference.run(live_graph)


def _inferred_dims(tensor: Any, origin: str) -> Dims:
    """The dimensions that TensorFlow's inference gives a tensor.

    Raises:
        ModelError: a negative one, which its C++ part lets through and its Python part refuses.
    """
    try:
        shape = tensor.shape
    except ValueError as error:
        raise ModelError(
            f"{origin}: tensor {tensor.name!r} has an impossible shape ({error})"
        ) from error
    return None if shape.rank is None else shape.as_list()


class _Round:
    """What is known of the tensors after TensorFlow has inferred once."""

    def __init__(self, inference: "_Inference", graph: Any, before: "_Round | None" = None) -> None:
        """Read the shapes of a graph; of nodes that it lacks they are what they were before."""
        nodes = inference.nodes
        self.dims: dict[Endpoint, Dims] = dict(before.dims) if before is not None else {}
        self.enums: dict[Endpoint, int] = dict(before.enums) if before is not None else {}
        self.nodes = nodes
        self.inference = inference
        inferred = nodes if before is None else [op.name for op in graph.get_operations()]
        for name in inferred:
            if name not in nodes:
                continue  # it states a shape
            for number, tensor in enumerate(graph.get_operation_by_name(name).outputs):
                endpoint = (name, number)
                self.dims[endpoint] = merged(
                    _inferred_dims(tensor, inference.library.origin), self.dims.get(endpoint)
                )
                self.enums[endpoint] = tensor.dtype.as_datatype_enum
        for endpoint, pin in inference.pins.items():
            self.dims[endpoint] = list(pin.shape)
        self.values = Values(nodes, self.spec, inference.given.values, self.returned)
        self.elements = Elements(
            nodes, self.spec, self.values,
            self.held,
            inference.dimensions.batch, inference.given.elements,
        )  # fmt: skip

    def returned(self, node: TensorflowNode, number: int) -> int | None:
        """What a counter is when the loop has ended that returns it."""
        ask = self.inference.returned
        return None if ask is None else ask(node, number, self)

    def held(self, node: TensorflowNode, number: int) -> TensorSpec | None:
        """What a loop's body puts into a list that the loop returns."""
        ask = self.inference.held
        return None if ask is None else ask(node, number, self)

    def spec(self, endpoint: Endpoint) -> TensorSpec | None:
        """The spec of a tensor; None where its shape is not known in full."""
        dims = self.dims.get(endpoint)
        if dims is None:
            return None
        sizes = [size for size in dims if size is not None]
        if len(sizes) < len(dims):
            return None
        return TensorSpec(tuple(sizes), dtype_of(self.enums[endpoint]))

    def known(self, endpoint: Endpoint) -> Pin | None:
        """Shape and type of a tensor of numbers, if its shape is known in full."""
        enum = self.enums.get(endpoint, _REFERENCE)
        if enum >= _REFERENCE or dtype_of(enum) in {DType.RESOURCE, DType.STRING}:
            return None
        spec = self.spec(endpoint)
        return None if spec is None else Pin(spec.shape, enum)

    def is_estimate(self, endpoint: Endpoint) -> bool:
        """Whether a tensor's shape rests on an estimate."""
        return endpoint in self.inference.dynamic

    def unknown(self) -> Iterator[Endpoint]:
        """Tensors of numbers whose shape is not known in full."""
        for endpoint, dims in self.dims.items():
            if dims is None or None in dims:
                scratch = (self.nodes[endpoint[0]].op_type, endpoint[1]) in _SCRATCH_OUTPUTS
                if dtype_of(self.enums[endpoint]) is not DType.RESOURCE and not scratch:
                    yield endpoint


@dataclass
class _Inference:
    nodes: Mapping[str, TensorflowNode]
    versions: Any
    library: Library
    dimensions: Dimensions
    given: Given
    results: Results | None
    held: Results | None
    returned: Returned | None
    pins: dict[Endpoint, Pin] = field(default_factory=dict)
    estimated: dict[Endpoint, None] = field(default_factory=dict)
    dynamic: frozenset[Endpoint] = frozenset()
    """Tensors whose shapes were not known before the first estimate."""

    def run(self, live_graph: Any) -> Scope:
        current = _Round(self, live_graph if live_graph is not None else self.imported({}))
        contradictions = tuple(
            f"{name}:{number}"
            for (name, number), dims in current.dims.items()
            if contradict(dims, declared_dims(self.nodes[name], number))
        )
        weights: frozenset[str] | None = None
        for _ in range(_MAX_ROUNDS):
            unknown = list(current.unknown())
            if not unknown:
                break
            new = self.found(current, unknown)
            estimates: dict[Endpoint, Pin] = {}
            if not new:
                self.dynamic = self.dynamic or frozenset(unknown)
                if weights is None:
                    weights = weights_among(self.nodes)
                estimates = self.guessed(current, unknown, weights)
            if not new and not estimates:
                break
            attempt = self.advanced({**new, **estimates}, current)
            if attempt is None:
                break
            current = attempt
            self.estimated.update(dict.fromkeys(e for e in estimates if e in self.pins))
        return self.scope(current, contradictions)

    def found(self, current: _Round, unknown: list[Endpoint]) -> dict[Endpoint, Pin]:
        """Shapes that the file states, and those of what arrays, lists and functions return."""
        pins: dict[Endpoint, Pin] = {}
        for name, number in unknown:
            node = self.nodes[name]
            dims = merged(current.dims[name, number], declared_dims(node, number))
            spec = None
            if node.op_type in READERS:
                read = current.elements.read(node)
                spec = read[1] if read is not None and read[0] == number else None
            elif self.results is not None:
                spec = self.results(node, number, current)
            if spec is not None and not contradict(dims, spec.shape):
                dims = merged(dims, spec.shape)
            if dims is not None and None not in dims:
                sizes = tuple(size for size in dims if size is not None)
                self.pin(pins, current, (name, number), sizes)
        return pins

    def guessed(
        self, current: _Round, unknown: list[Endpoint], weights: frozenset[str]
    ) -> dict[Endpoint, Pin]:
        """Estimates for the tensors from which unknown sizes come.

        First for those that depend on no other unknown size, not even by way of a value. What is
        read from arrays and lists, or returned by loops, comes after, for it may yet be found.
        """
        missing = {(name, number) for name, number in unknown}
        sources = {name for name, _ in missing}
        behind = followers(self.nodes, sources, around=False)
        around = followers(self.nodes, sources, around=True)
        stages: tuple[dict[Endpoint, Pin], ...] = ({}, {}, {}, {})
        estimator = Estimator(self.nodes, weights, current.values, self.dimensions.batch)
        for name, number in unknown:
            node = self.nodes[name]
            back = {e for e in node.inputs if self.nodes[e[0]].op_type == "NextIteration"}
            if any(
                endpoint in missing and endpoint not in back
                for endpoint in node.inputs
                if dtype_of(current.enums.get(endpoint, 0)) is not DType.STRING  # no size of ours
            ):
                continue
            inputs = [current.spec(endpoint) for endpoint in node.inputs]
            dims = merged(current.dims[name, number], declared_dims(node, number))
            sizes = estimator.shape(node, number, dims, inputs)
            if sizes is not None:
                late = node.op_type in READERS or node.op_type in COMPOSITE_OPS
                stage = late + 2 * (name in (around if late else behind))
                self.pin(stages[stage], current, (name, number), sizes)
        return next((pins for pins in stages if pins), {})

    def pin(
        self,
        pins: dict[Endpoint, Pin],
        current: _Round,
        endpoint: Endpoint,
        sizes: tuple[int, ...],
    ) -> None:
        enum = current.enums[endpoint]
        if enum < _REFERENCE and endpoint not in self.pins:
            pins[endpoint] = Pin(sizes, enum)

    def advanced(self, new: Mapping[Endpoint, Pin], current: _Round) -> _Round | None:
        """The next round, with what is stated anew as far as TensorFlow accepts it."""
        kept = dict(self.pins)
        certain = {e: pin for e, pin in new.items() if current.dims[e] is not None}
        for attempt in (dict(new), certain):
            if not attempt:
                continue
            pins = {**kept, **attempt}
            changed = followers(self.nodes, {name for name, _ in attempt}, around=True)
            part = part_behind(self.nodes, changed, pins, current.known)
            try:
                graph = self.imported(pins, part)
            except ModelError:
                continue  # an estimate contradicts what follows
            self.pins = pins
            return _Round(self, graph, current)
        return None

    def imported(self, pins: Mapping[Endpoint, Pin], part: Part | None = None) -> Any:
        graph_def = inferable_graph_def(
            self.nodes, self.versions, self.library, self.dimensions, self.given.specs, pins, part
        )
        graph = tf.Graph()
        try:
            with graph.as_default():
                tf.import_graph_def(graph_def, name="")
        except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:400]
            raise ModelError(
                f"{self.library.origin}: TensorFlow {tf.__version__} refuses the graph ({reason}); "
                "the graph must be valid for this version"
            ) from error
        return graph

    def scope(self, current: _Round, contradictions: tuple[str, ...]) -> Scope:
        spec = cache(TensorSpec)
        outputs: dict[str, list[TensorSpec]] = {name: [] for name in self.nodes}
        rest = dict.fromkeys(current.unknown())
        for endpoint, dims in current.dims.items():
            sizes = completed(dims, self.dimensions.batch)
            outputs[endpoint[0]].append(spec(sizes, dtype_of(current.enums[endpoint])))
        specs = Specs(
            {name: tuple(items) for name, items in outputs.items()},
            tuple(f"{name}:{number}" for name, number in {**self.estimated, **rest}),
            tuple(f"{name}:{number}" for name, number in sorted(self.dynamic)),
            contradictions,
        )
        return Scope(self.nodes, specs, current.values, current.elements)
