"""Reads an exported torch program in memory, from the shapes on its FX nodes."""

import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.dimensions import refuse_unknown_dims
from graphs.importers.torch_models.calls import (
    CARRIERS,
    HIGHER_ORDER,
    ExportedGraph,
    ExportedOp,
    written_operands,
)
from graphs.importers.torch_models.data_sizes import DataSizes, is_unbacked, upper_estimate
from graphs.importers.torch_models.training import Gradients
from graphs.kinds import DType

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

_DTYPES = {
    "float32": DType.FLOAT32, "float16": DType.FLOAT16, "bfloat16": DType.BFLOAT16,
    "float64": DType.FLOAT64, "int8": DType.INT8, "uint8": DType.INT8, "int16": DType.INT16,
    "uint16": DType.INT16, "int32": DType.INT32, "uint32": DType.INT32, "int64": DType.INT64,
    "uint64": DType.INT64, "bool": DType.BOOL, "complex64": DType.COMPLEX64,
    "complex128": DType.COMPLEX128, "complex32": DType.INT32,
}  # fmt: skip


def read_program(
    program: "ExportedProgram", dims: Mapping[str, int], origin: str
) -> tuple[ExportedGraph, dict[str, int], DataSizes]:
    """Turn a program into an `ExportedGraph`; also the sizes that were assumed or estimated.

    Raises:
        ModelError: an unknown dimension.
    """
    signature = program.graph_signature
    module = program.graph_module
    weight_names = {
        *signature.inputs_to_parameters,
        *signature.inputs_to_buffers,
        *signature.inputs_to_lifted_tensor_constants,
    }
    bounds = {
        str(symbol): int(limits.upper)
        for symbol, limits in program.range_constraints.items()
        if str(limits.upper).isdecimal()
    }
    sizes = _Sizes(module, set(signature.user_inputs), dims, bounds, origin)
    placeholders = {
        node.name: sizes.spec(node.meta["val"])
        for node in module.graph.nodes
        if node.op == "placeholder" and _is_tensor(node.meta.get("val"))
    }
    places = {name: place for place, name in signature.inputs_to_buffers.items()}
    exported = ExportedGraph(
        inputs={name: spec for name, spec in placeholders.items() if name not in weight_names},
        weights={name: spec for name, spec in placeholders.items() if name in weight_names},
        ops=list(_ops(module, sizes)),
        outputs=_outputs(module),
        mutations={
            **{out: places[name] for out, name in signature.buffers_to_mutate.items()},
            **signature.user_inputs_to_mutate,
        },
    )
    return exported, sizes.assumed, sizes.data_sizes


def read_gradients(program: "ExportedProgram", origin: str) -> Gradients:
    """What a joint program computes: its loss and the gradient of each parameter.

    Raises:
        ModelError: the program has no backward pass.
    """
    signature = program.graph_signature
    backward = signature.backward_signature
    if backward is None:
        raise ModelError(
            f"{origin}: the program has no backward pass; export it jointly with its gradients, "
            "or import it as a forward graph"
        )
    places = {name: place for place, name in signature.inputs_to_parameters.items()}
    return Gradients(
        loss=backward.loss_output,
        parameters=dict(signature.inputs_to_parameters),
        of={places[name]: tensor for tensor, name in backward.gradients_to_parameters.items()},
    )


class _Sizes:
    """Numbers for symbolic sizes: the user's where given, else the example's."""

    def __init__(
        self,
        module: "GraphModule",
        inputs: set[object],
        dims: Mapping[str, int],
        bounds: Mapping[str, int],
        origin: str,
    ) -> None:
        self.origin = origin
        self.given: dict[str, int] = {}
        self.assumed: dict[str, int] = {}
        places: dict[str, str] = {}
        symbols: set[str] = set()
        for node in module.graph.nodes:
            value = node.meta.get("val")
            for item in value if isinstance(value, tuple | list) else (value,):
                if _is_tensor(item):
                    symbols.update(filter(is_unbacked, _symbols(item)))
            if node.op == "placeholder" and _is_tensor(value):
                for axis, size in enumerate(value.shape):
                    if not isinstance(size, int):
                        symbols.update(str(symbol) for symbol in size.node.expr.free_symbols)
                        if node.name in inputs and size.node.expr.is_Symbol:
                            places[f"{node.name}[{axis}]"] = str(size.node.expr)
        refuse_unknown_dims(dims, frozenset(symbols) | frozenset(places), origin)
        self.given = {places.get(name, name): size for name, size in dims.items()}
        self.data_sizes = DataSizes(self.given, bounds)

    def settle(self, node: "Node") -> None:
        """Decide the sizes that depend on data and that this call is the first to have."""
        value = node.meta.get("val")
        items = [item for item in (value if isinstance(value, tuple | list) else [value])
                 if _is_tensor(item)]  # fmt: skip
        for item in items:
            for axis, size in enumerate(item.shape):
                for name in sorted(_symbols_of(size)):
                    if is_unbacked(name) and name not in self.data_sizes.known():
                        specs = [self.spec(source.meta["val"]) for source in _operands(node)]
                        estimate = upper_estimate(_target(node), specs, len(items), axis)
                        self.data_sizes.settle(name, estimate)

    def number(self, size: "int | torch.SymInt") -> int:
        if isinstance(size, int):
            return size
        expression = size.node.expr
        values: dict[object, int] = {}
        decided = self.data_sizes.known()
        for symbol in expression.free_symbols:
            name = str(symbol)
            if name in decided:
                values[symbol] = decided[name]
                continue
            if name not in self.given and name not in self.assumed:
                hint = size.node.shape_env.backed_var_to_val.get(symbol, 1)
                self.assumed[name] = int(hint)
            values[symbol] = self.given.get(name, self.assumed.get(name, 1))
        return int(expression.subs(values))

    def spec(self, value: "torch.Tensor") -> TensorSpec:
        kind = str(value.dtype).removeprefix("torch.")
        dtype = DType.FLOAT8 if kind.startswith("float8") else _DTYPES.get(kind)
        if dtype is None:
            raise ModelError(f"{self.origin}: tensors of type {kind} are not supported")
        return TensorSpec(tuple(self.number(size) for size in value.shape), dtype)


def _is_tensor(value: object) -> "TypeGuard[torch.Tensor]":
    import torch

    return isinstance(value, torch.Tensor)


def _symbols(value: "torch.Tensor") -> set[str]:
    return {name for size in value.shape for name in _symbols_of(size)}


def _symbols_of(size: "int | torch.SymInt") -> set[str]:
    if isinstance(size, int):
        return set()
    return {str(symbol) for symbol in size.node.expr.free_symbols}


def _ops(module: "GraphModule", sizes: _Sizes) -> Iterator[ExportedOp]:
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        sizes.settle(node)
        bodies = [
            ExportedGraph(_body_inputs(body, sizes), {}, list(_ops(body, sizes)), _outputs(body))
            for body in _bodies(module, node)
        ]
        target, arguments, attributes = _target(node), _arguments(node), _attributes(node)
        outputs = _outputs_of(node, sizes)
        written = written_operands(target, arguments, [name for name, _ in outputs], attributes)
        yield ExportedOp(
            name=_label(node),
            target=target,
            inputs=[name for _, group in arguments for name in group],
            outputs=outputs,
            attributes=attributes,
            bodies=bodies,
            arguments=arguments,
            written=_declared_writes(node) or written,
        )


def _target(node: "Node") -> str:
    """The operator as its file names it; of one that runs another on its operands, that other."""
    from torch._ops import HigherOrderOperator

    target = node.target
    if isinstance(target, HigherOrderOperator):
        name = HIGHER_ORDER + str(target)
        inner = next((item for item in node.args if hasattr(item, "_schema")), None)
        return str(inner) if name in CARRIERS and inner is not None else name
    if hasattr(target, "_schema") or not callable(target):
        return str(target).removeprefix("torch.ops.")
    return f"{target.__module__}.{target.__name__}"


def _named(node: "Node") -> list[tuple[str, Any]]:
    """Arguments with the names of the operator's schema, else their positions."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    names += [str(position) for position in range(len(names), len(node.args))]
    return [*zip(names, node.args, strict=False), *node.kwargs.items()]


def _tensors_in(value: object) -> list["Node"]:
    """Nodes that carry tensors in an argument, as often as they stand there."""
    if isinstance(value, list | tuple):
        return [node for item in value for node in _tensors_in(item)]
    if isinstance(value, dict):
        return [node for item in value.values() for node in _tensors_in(item)]
    return [value] if _is_node(value) and _carries_tensor(value) else []


def _operands(node: "Node") -> list["Node"]:
    return [source for _, value in _named(node) for source in _tensors_in(value)]


def _arguments(node: "Node") -> list[tuple[str, list[str]]]:
    named = [(name, [item.name for item in _tensors_in(value)]) for name, value in _named(node)]
    return [(name, group) for name, group in named if group]


def _declared_writes(node: "Node") -> list[str]:
    """Operands that a foreign operator's schema says it changes."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or str(node.target).startswith("aten."):
        return []
    changed = {
        argument.name
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    return [name for label, group in _arguments(node) if label in changed for name in group]


def _is_node(value: object) -> "TypeGuard[Node]":
    from torch.fx import Node

    return isinstance(value, Node)


def _carries_tensor(node: "Node") -> bool:
    return _is_tensor(node.meta.get("val"))


def _outputs_of(node: "Node", sizes: _Sizes) -> list[tuple[str, TensorSpec]]:
    """A call that returns several tensors is read through `getitem` nodes, which name them."""
    value = node.meta.get("val")
    if _is_tensor(value):
        return [(node.name, sizes.spec(value))]
    if not isinstance(value, tuple | list):
        return []
    names = {user.args[1]: user.name for user in node.users if user.target is operator.getitem}
    return [
        (names.get(position, f"{node.name}#{position}"), sizes.spec(item))
        for position, item in enumerate(value)
        if _is_tensor(item)
    ]


def _attributes(node: "Node") -> dict[str, Any]:
    """Arguments by name, as far as they are plain values."""
    named = dict(_named(node))
    plain = (int, float, str, bool)
    return {
        name: list(value) if isinstance(value, list | tuple) else value
        for name, value in named.items()
        if isinstance(value, plain)
        or (isinstance(value, list | tuple) and all(isinstance(item, plain) for item in value))
    }


def _label(node: "Node") -> str:
    """`encoder.layers.0/linear_2`: the module that made the call, then torch's name."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return f"{path}/{node.name}" if path else node.name


def _bodies(module: "GraphModule", node: "Node") -> Iterator["GraphModule"]:
    """Modules passed to a higher-order operator such as `cond`."""
    for source in node.all_input_nodes:
        if source.op == "get_attr":
            attribute = getattr(module, str(source.target), None)
            if attribute is not None and hasattr(attribute, "graph"):
                yield attribute


def _body_inputs(body: "GraphModule", sizes: _Sizes) -> dict[str, TensorSpec]:
    return {
        node.name: sizes.spec(node.meta["val"])
        for node in body.graph.nodes
        if node.op == "placeholder" and _is_tensor(node.meta.get("val"))
    }


def _outputs(module: "GraphModule") -> list[str]:
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    return [source.name for source in _tensors_in(output.args)]
