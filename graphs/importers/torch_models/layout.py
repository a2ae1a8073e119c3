"""What the JSON form of an exported program must look like before it is read.

A document is held against this once, at the door; `document` may then take every field that is
named here for what it is. Fields that nobody reads are not looked at.
"""

from collections.abc import Callable, Mapping
from typing import Any

#: A size or a bound: torch writes them as 64-bit numbers.
_LARGEST_NUMBER = 2**63

_Check = Callable[[Any, str], None]


class LayoutError(ValueError):
    """A field that is missing, or not what it must be; the message names it."""


def check_layout(document: Any) -> None:
    """Hold a whole document against the layout.

    Raises:
        LayoutError: a field that is read is missing or of another type.
        RecursionError: bodies within bodies without end.
    """
    _DOCUMENT(document, "the document")


def _refuse(value: Any, where: str, wanted: str) -> None:
    raise LayoutError(f"{where} is {value!r:.60}; it must be {wanted}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        _refuse(value, where, "text")


def _number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_NUMBER:
        _refuse(value, where, "a whole number of 64 bits")


def _list_of(check: _Check) -> _Check:
    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list):
            _refuse(value, where, "a list")
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")

    return checked


def _table_of(check: _Check) -> _Check:
    """An object whose keys are names."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object")
        for key, item in value.items():
            check(item, f"{where}.{key:.60}")

    return checked


def _perhaps(check: _Check) -> _Check:
    """What is checked unless it is null."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def _object(needed: Mapping[str, _Check], optional: Mapping[str, _Check] | None = None) -> _Check:
    """An object with some fields, and others that may be missing."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object")
        for key, check in needed.items():
            if key not in value:
                raise LayoutError(f"{where} has no {key}")
            check(value[key], f"{where}.{key}")
        for key, check in (optional or {}).items():
            if key in value:
                check(value[key], f"{where}.{key}")

    return checked


def _graph(value: Any, where: str) -> None:
    """A graph holds nodes, whose arguments may be graphs."""
    _GRAPH(value, where)


def _size(value: Any, where: str) -> None:
    _SIZE(value, where)
    if not ("as_int" in value or "as_expr" in value):
        _refuse(value, where, "as_int or as_expr")


def _is_true(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        _refuse(value, where, "true or false")


def _plain_list(*kinds: type) -> _Check:
    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or not all(isinstance(item, kinds) for item in value):
            _refuse(value, where, "a list of plain values")

    return checked


def _figure(value: Any, where: str) -> None:
    # torch writes what JSON has no figure for, infinities say, as text.
    if not isinstance(value, int | float | str):
        _refuse(value, where, "a figure")


_NAMED = _object({"name": _text})
_SIZE = _object(
    {},
    {
        "as_int": _number,
        "as_expr": _object(
            {"expr_str": _text}, {"hint": _perhaps(_object({}, {"as_int": _number}))}
        ),
    },
)
_TENSOR = _object({"sizes": _list_of(_size), "dtype": _number})
_ARGUMENT = _object(
    {},
    {
        "as_tensor": _NAMED,
        "as_tensors": _list_of(_NAMED),
        "as_optional_tensor": _object({}, {"as_tensor": _NAMED}),
        "as_optional_tensors": _list_of(_object({}, {"as_tensor": _NAMED})),
        "as_nested_tensors": _list_of(_list_of(_NAMED)),
        "as_graph": _object({"graph": _graph}),
        "as_operator": _text,
        "as_int": _number,
        "as_ints": _list_of(_number),
        "as_float": _figure,
        "as_floats": _plain_list(int, float, str),
        "as_bool": _is_true,
        "as_bools": _plain_list(bool),
        "as_string": _text,
        "as_strings": _plain_list(str),
    },
)
_NODE = _object(
    {
        "target": _text,
        "inputs": _list_of(_object({"name": _text, "arg": _ARGUMENT})),
        "outputs": _list_of(_ARGUMENT),
    },
    {
        "name": _perhaps(_text),
        "metadata": _perhaps(_object({}, {"nn_module_stack": _text})),
    },
)
_GRAPH = _object(
    {
        "inputs": _list_of(_ARGUMENT),
        "outputs": _list_of(_ARGUMENT),
        "nodes": _list_of(_NODE),
        "tensor_values": _table_of(_TENSOR),
    }
)
#: An input that is changed: a tensor, or a name alone.
_CHANGED = _object({}, {"name": _text, "as_tensor": _NAMED})
_SIGNATURE = _object(
    {
        "input_specs": _list_of(
            _object(
                {},
                {
                    "user_input": _object({}, {"arg": _ARGUMENT}),
                    "parameter": _object({"arg": _NAMED, "parameter_name": _text}),
                    "buffer": _object({"arg": _NAMED, "buffer_name": _text}),
                    "tensor_constant": _object({"arg": _NAMED}),
                },
            )
        )
    },
    {
        "output_specs": _list_of(
            _object(
                {},
                {
                    "buffer_mutation": _object({"arg": _NAMED, "buffer_name": _text}),
                    "user_input_mutation": _object({"arg": _CHANGED, "user_input_name": _text}),
                },
            )
        )
    },
)
_DOCUMENT = _object(
    {
        "schema_version": _object({"major": _number}),
        "graph_module": _object({"graph": _graph, "signature": _SIGNATURE}),
    },
    {"range_constraints": _perhaps(_table_of(_object({}, {"max_val": _perhaps(_number)})))},
)
