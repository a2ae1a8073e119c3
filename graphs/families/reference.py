"""Generated graphs by reference: `family:seed` or `family:seed:ops`, such as `rnnlm:17:3000`."""

import re

from graphs.errors import ModelError
from graphs.families.registry import FAMILIES, generate
from graphs.graph import Graph

_FORM = re.compile(r"([a-z]+):(\d+)(?::(\d+))?")


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference; its family need not exist."""
    return _FORM.fullmatch(text) is not None


def graph_of_reference(text: str) -> Graph:
    """Generate the graph that a reference names.

    Raises:
        ModelError: another form, an unknown family, or a size that families do not make.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ModelError(
            f"{text!r}: write FAMILY:SEED or FAMILY:SEED:OPS, such as rnnlm:17:3000; "
            f"families are {', '.join(FAMILIES)}"
        )
    family, seed, ops = match.groups()
    return generate(family, int(seed), int(ops) if ops else None)
