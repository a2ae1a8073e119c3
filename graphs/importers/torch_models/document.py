"""Reads the JSON form of an exported torch program (`models/<name>.json` of a `.pt2` file)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphs.costs.work import SizeError, TensorSpec
from graphs.errors import ModelError
from graphs.importers.dimensions import evaluate_dimension, names_in, refuse_unknown_dims
from graphs.importers.torch_models.calls import (
    CARRIERS,
    ExportedGraph,
    ExportedOp,
    written_operands,
)
from graphs.importers.torch_models.data_sizes import DataSizes, is_unbacked, upper_estimate
from graphs.importers.torch_models.layout import check_layout
from graphs.kinds import DType

#: Newest layout of the document that is understood (`SCHEMA_VERSION` of torch's exporter).
_SCHEMA_MAJOR = 8

#: The exporter's own numbers for element types.
_DTYPES = {
    1: DType.INT8, 2: DType.INT8, 3: DType.INT16, 4: DType.INT32, 5: DType.INT64,
    6: DType.FLOAT16, 7: DType.FLOAT32, 8: DType.FLOAT64, 9: DType.INT32, 10: DType.COMPLEX64,
    11: DType.COMPLEX128, 12: DType.BOOL, 13: DType.BFLOAT16, 28: DType.INT16,
    29: DType.FLOAT8, 30: DType.FLOAT8, 31: DType.FLOAT8, 32: DType.FLOAT8, 33: DType.FLOAT8,
    34: DType.INT32, 35: DType.INT64,
}  # fmt: skip

_WEIGHT_SPECS = ("parameter", "buffer", "tensor_constant")

#: What a document of another layout raises when its fields are taken for granted.
_LAYOUT_ERRORS = (KeyError, TypeError, IndexError, AttributeError, ValueError)


def read_document(
    document: Any, dims: Mapping[str, int], origin: str
) -> tuple[ExportedGraph, dict[str, int], DataSizes]:
    """Turn the document into an `ExportedGraph`; also the sizes that were assumed or estimated.

    Raises:
        ModelError: another layout, or an unknown dimension.
    """
    try:
        major = document["schema_version"]["major"]
        if major != _SCHEMA_MAJOR:
            raise ModelError(
                f"{origin}: exported-program schema {major!r:.40}; this graphwright reads "
                f"{_SCHEMA_MAJOR}"
            )
        check_layout(document)
        module = document["graph_module"]
        sizes, assumed, given = _bind(module, dims, origin)
        reader = _Reader(origin, sizes, assumed, DataSizes(given, _bounds(document)))
        return reader.program(module), reader.assumed, reader.data_sizes
    except _LAYOUT_ERRORS as error:
        raise ModelError(
            f"{origin}: not an exported program of schema {_SCHEMA_MAJOR}, or damaged "
            f"({type(error).__name__}: {str(error)[:240]})"
        ) from error
    except RecursionError as error:
        raise ModelError(f"{origin}: the program is nested too deeply to be read") from error


def parameter_names(document: Any) -> dict[str, str]:
    """The name in its module of each parameter and buffer, by its name in the graph."""
    named = {}
    for item in document["graph_module"]["signature"]["input_specs"]:
        for kind, key in (("parameter", "parameter_name"), ("buffer", "buffer_name")):
            if kind in item:
                named[str(item[kind]["arg"]["name"])] = str(item[kind][key])
    return named


def _bounds(document: Mapping[str, Any]) -> dict[str, int]:
    """The largest value that torch allows for each symbol, where it says one."""
    ranges = document.get("range_constraints") or {}
    return {
        symbol: limits["max_val"]
        for symbol, limits in ranges.items()
        if isinstance(limits.get("max_val"), int)
    }


def _bind(
    module: Mapping[str, Any], dims: Mapping[str, int], origin: str
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Sizes of the inputs' symbols, of those the ones that are merely the example's, and the
    sizes that the user gave."""
    graph = module["graph"]
    hints: dict[str, int] = {}
    by_data: set[str] = set()
    places: dict[str, str] = {}
    inputs = set(_user_inputs(module["signature"]))
    for name, meta in graph["tensor_values"].items():
        for axis, size in enumerate(meta["sizes"]):
            if "as_int" in size:
                continue
            expression, hint = size["as_expr"]["expr_str"], size["as_expr"].get("hint") or {}
            symbols = names_in(expression) or {expression}
            by_data.update(filter(is_unbacked, symbols))
            if by_data.issuperset(symbols):
                continue
            if len(symbols) == 1 and evaluate_dimension(expression, dict.fromkeys(symbols, 7)) == 7:
                (symbol,) = symbols
                hints.setdefault(symbol, int(hint.get("as_int", 1)))
                if name in inputs:
                    places[f"{name}[{axis}]"] = symbol
    refuse_unknown_dims(dims, frozenset(hints) | frozenset(places) | by_data, origin)
    given = {places.get(name, name): size for name, size in dims.items()}
    assumed = {symbol: hint for symbol, hint in sorted(hints.items()) if symbol not in given}
    return {**assumed, **given}, assumed, given


def _user_inputs(signature: Mapping[str, Any]) -> Iterator[str]:
    for item in signature["input_specs"]:
        argument = item.get("user_input", {}).get("arg", {})
        if "as_tensor" in argument:
            yield argument["as_tensor"]["name"]


class _Reader:
    """Reads graphs and their nested bodies with one binding of symbols."""

    def __init__(
        self,
        origin: str,
        sizes: Mapping[str, int],
        assumed: dict[str, int],
        data_sizes: DataSizes,
    ) -> None:
        self.origin = origin
        self.sizes = dict(sizes)
        self.assumed = assumed
        self.data_sizes = data_sizes

    def program(self, module: Mapping[str, Any]) -> ExportedGraph:
        graph, signature = module["graph"], module["signature"]
        self.settle(graph)
        specs = self.specs(graph)
        weights = [
            item[kind]["arg"]["name"]
            for item in signature["input_specs"]
            for kind in _WEIGHT_SPECS
            if kind in item
        ]
        inputs = list(_user_inputs(signature))
        outputs = [name for item in graph["outputs"] for name in _tensors_of(item)]
        return ExportedGraph(
            {name: specs[name] for name in inputs},
            {name: specs[name] for name in weights},
            [self.op(node, index, specs) for index, node in enumerate(graph["nodes"])],
            outputs,
            _mutations(signature),
        )

    def settle(self, graph: Mapping[str, Any]) -> None:
        """Decide the sizes that depend on data, where they first occur, also in bodies."""
        values = graph["tensor_values"]
        for node in graph["nodes"]:
            names = [name for item in node["outputs"] for name in _tensors_of(item)]
            for name in names:
                for axis, size in enumerate(values[name]["sizes"]):
                    self.settle_size(node, size, axis, len(names), values)
            for item in node["inputs"]:
                if "as_graph" in item["arg"]:
                    self.settle(item["arg"]["as_graph"]["graph"])

    def settle_size(
        self,
        node: Mapping[str, Any],
        size: Mapping[str, Any],
        axis: int,
        outputs: int,
        values: Mapping[str, Any],
    ) -> None:
        expression = size["as_expr"]["expr_str"] if "as_expr" in size else ""
        for symbol in sorted(filter(is_unbacked, names_in(expression) or {expression})):
            if symbol not in self.sizes:
                sources = [name for item in node["inputs"] for name in _tensors_of(item["arg"])]
                specs = [self.spec(name, values[name]) for name in sources if name in values]
                estimate = upper_estimate(_target(node), specs, outputs, axis)
                self.data_sizes.settle(symbol, estimate)
                self.sizes[symbol] = self.data_sizes.known()[symbol]

    def body(self, graph: Mapping[str, Any]) -> ExportedGraph:
        specs = self.specs(graph)
        inputs = [name for item in graph["inputs"] for name in _tensors_of(item)]
        outputs = [name for item in graph["outputs"] for name in _tensors_of(item)]
        ops = [self.op(node, index, specs) for index, node in enumerate(graph["nodes"])]
        return ExportedGraph({name: specs[name] for name in inputs}, {}, ops, outputs)

    def specs(self, graph: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {name: self.spec(name, meta) for name, meta in graph["tensor_values"].items()}

    def spec(self, name: str, meta: Mapping[str, Any]) -> TensorSpec:
        shape = tuple(self.size(name, size) for size in meta["sizes"])
        try:
            return TensorSpec(shape, _DTYPES[meta["dtype"]])
        except SizeError as error:
            raise ModelError(
                f"{self.origin}: tensor {name!r} has the impossible shape {shape!s:.200}"
            ) from error

    def size(self, name: str, size: Mapping[str, Any]) -> int:
        if "as_int" in size:
            return int(size["as_int"])
        expression = size["as_expr"]["expr_str"]
        known = evaluate_dimension(expression, self.sizes)
        if known is None:
            known = int((size["as_expr"].get("hint") or {}).get("as_int", 1))
            self.assumed[expression] = known
        return known

    def op(
        self, node: Mapping[str, Any], index: int, specs: Mapping[str, TensorSpec]
    ) -> ExportedOp:
        outputs = [name for item in node["outputs"] for name in _tensors_of(item)]
        arguments = [
            (item["name"] or str(position), tensors)
            for position, item in enumerate(node["inputs"])
            if (tensors := _tensors_of(item["arg"]))
        ]
        attributes = {
            item["name"] or str(position): _plain(item["arg"])
            for position, item in enumerate(node["inputs"])
        }
        own = node.get("name") or (outputs[0] if outputs else f"call_{index}")
        stack = (node.get("metadata") or {}).get("nn_module_stack", "")
        return ExportedOp(
            name=_label(stack, own),
            target=_target(node),
            inputs=[name for _, group in arguments for name in group],
            outputs=[(name, specs[name]) for name in outputs],
            attributes=attributes,
            bodies=[
                self.body(item["arg"]["as_graph"]["graph"])
                for item in node["inputs"]
                if "as_graph" in item["arg"]
            ],
            arguments=arguments,
            written=written_operands(_target(node), arguments, outputs, attributes),
        )


def _target(node: Mapping[str, Any]) -> str:
    """The operator; where a higher-order one runs another on its operands, that other."""
    target = str(node["target"]).removeprefix("torch.ops.")
    if target in CARRIERS:
        for item in node["inputs"]:
            if "as_operator" in item["arg"]:
                return str(item["arg"]["as_operator"]).removeprefix("torch.ops.")
    return target


def _mutations(signature: Mapping[str, Any]) -> dict[str, str]:
    """Results that are copied into a buffer or an input when the program ends."""
    buffers = {
        item["buffer"]["buffer_name"]: item["buffer"]["arg"]["name"]
        for item in signature["input_specs"]
        if "buffer" in item
    }
    found = {}
    for item in signature.get("output_specs", ()):
        if "buffer_mutation" in item:
            change = item["buffer_mutation"]
            if change["buffer_name"] in buffers:
                found[str(change["arg"]["name"])] = buffers[change["buffer_name"]]
        elif "user_input_mutation" in item:
            change = item["user_input_mutation"]
            found.update(
                dict.fromkeys(_tensors_of(change["arg"]) if "as_tensor" in change["arg"]
                              else [change["arg"]["name"]], change["user_input_name"])
            )  # fmt: skip
    return found


def _label(stack: str, own: str) -> str:
    """`encoder.layers.0/linear_2`: the module that made the call, then torch's name."""
    parts = stack.rsplit(";", maxsplit=1)[-1].split(",")
    path = parts[1] if len(parts) == 3 else ""
    return f"{path}/{own}" if path and not path.startswith("_empty") else own


def _tensors_of(argument: Mapping[str, Any]) -> list[str]:
    """Tensor names inside one argument."""
    if "as_tensor" in argument:
        return [argument["as_tensor"]["name"]]
    if "as_tensors" in argument:
        return [item["name"] for item in argument["as_tensors"]]
    if "as_optional_tensors" in argument:
        return [
            item["as_tensor"]["name"]
            for item in argument["as_optional_tensors"]
            if "as_tensor" in item
        ]
    if "as_optional_tensor" in argument and "as_tensor" in argument["as_optional_tensor"]:
        return [argument["as_optional_tensor"]["as_tensor"]["name"]]
    if "as_nested_tensors" in argument:
        return [item["name"] for row in argument["as_nested_tensors"] for item in row]
    return []


def _plain(argument: Mapping[str, Any]) -> int | float | str | bool | Sequence[Any] | None:
    """The plain value of an argument; tensors, symbols and graphs have none."""
    for key in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string",
                "as_strings"):  # fmt: skip
        if key in argument:
            value: int | float | str | bool | Sequence[Any] = argument[key]
            return value
    return None
