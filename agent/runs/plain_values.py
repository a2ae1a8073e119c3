"""Nested frozen dataclasses to and from plain values, as JSON and YAML have them."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from graphs.errors import GraphwrightError

Config = TypeVar("Config")


def to_plain(config: Any) -> dict[str, Any]:
    """Mappings, lists and scalars; tuples become lists."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def from_plain(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """A dataclass from plain values; what is left out keeps its default.

    Raises:
        GraphwrightError: an unknown key, or a value of another type; the message names its path.
    """
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise GraphwrightError(
            f"unknown setting {where}{unknown[0]}; {where or 'there '}"
            f"{'has' if where else 'are'} {', '.join(sorted(known))}"
        )
    made = {key: _made(hints[key], value, f"{where}{key}") for key, value in values.items()}
    return kind(**made)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _made(kind: Any, value: Any, path: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise GraphwrightError(f"{path} is {value!r}; it is a group of settings")
        return from_plain(kind, value, f"{path}.")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise GraphwrightError(f"{path} is {value!r}; it must be a list")
        return tuple(_made(get_args(kind)[0], item, path) for item in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise GraphwrightError(f"{path} is {value!r}; it must be {_name(kind)}")
    return value


def _name(kind: Any) -> str:
    names = {int: "a whole number", str: "text", bool: "true or false", float: "a number"}
    return names.get(kind, str(kind))
