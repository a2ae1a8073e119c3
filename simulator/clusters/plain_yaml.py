"""YAML as plain values: no object tags, nothing that grows beyond what was written."""

from collections.abc import Mapping
from typing import Any

import yaml

_MAX_VALUES = 1_000_000


def load_plain_yaml(text: str) -> Any:
    """Parse YAML into mappings, lists and scalars.

    Raises:
        ValueError: not YAML, object tags, values that cannot be built, nesting without end.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # PyYAML lets these through for figures and dates such as `2001-13-45` or `!!int x`.
        raise ValueError(f"it holds a value that cannot be read ({error})") from error
    _check_size(document)
    return document


def _check_size(document: Any) -> None:
    """Refuse aliases that repeat each other until the document no longer fits anywhere."""
    waiting, seen = [document], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > _MAX_VALUES:
            raise ValueError(f"its aliases expand to more than {_MAX_VALUES} values")
        if isinstance(value, Mapping):
            waiting.extend(value.keys())
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
