"""What the page on environments says is so."""

import doctest
import re
from pathlib import Path

import gymnasium  # noqa: F401 - the docstring's example
import numpy as np  # noqa: F401
import pytest

from envs import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    IDS,
    KNOWN_IDS,
    KNOWN_OPTIMA,
    LINK_COLUMNS,
    OP_COLUMNS,
    PAIR_COLUMNS,
    REWARDS,
    GraphEnv,
)
from envs.features.static_features import (
    DEVICE_FEATURES,
    EDGE_FEATURES,
    GRAPH_FEATURES,
    LINK_FEATURES,
    OP_FEATURES,
    PAIR_FEATURES,
)
from envs.features.trace_features import (
    DEVICE_TRACE_FEATURES,
    EDGE_TRACE_FEATURES,
    GRAPH_TRACE_FEATURES,
    LINK_TRACE_FEATURES,
    OP_TRACE_FEATURES,
    PAIR_TRACE_FEATURES,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"
COLUMNS = {
    "op": (OP_FEATURES, OP_TRACE_FEATURES),
    "edge": (EDGE_FEATURES, EDGE_TRACE_FEATURES),
    "device": (DEVICE_FEATURES, DEVICE_TRACE_FEATURES),
    "link": (LINK_FEATURES, LINK_TRACE_FEATURES),
    "op on a device": (PAIR_FEATURES, PAIR_TRACE_FEATURES),
    "whole": (GRAPH_FEATURES, GRAPH_TRACE_FEATURES),
}


def test_the_public_names_are_of_the_same_columns() -> None:
    public = OP_COLUMNS, EDGE_COLUMNS, DEVICE_COLUMNS, LINK_COLUMNS, PAIR_COLUMNS, GRAPH_COLUMNS
    assert public == tuple(known + seen for known, seen in COLUMNS.values())


@pytest.mark.parametrize("subject", COLUMNS)
def test_every_column_is_named_in_its_order(subject: str) -> None:
    row = next(
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {subject} | `")
    )
    cells = [tuple(re.findall(r"`(\w+)`", cell)) for cell in row.split("|")[2:4]]
    assert tuple(cells) == COLUMNS[subject]


def test_every_id_and_reward_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in (*IDS, *KNOWN_IDS):
        assert name.removeprefix("graphwright/") in text
    for name in REWARDS:
        assert f"| `{name}` |" in text


def test_the_example_runs() -> None:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace("inception-v3", "gpt2"), names)
    assert isinstance(names["reward"], float)


def test_the_encoders_lines_run() -> None:
    from agent.policy.inputs import collate_graphs

    _, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    env = GraphEnv(problem=KNOWN_OPTIMA["ForkJoin"]().problem)
    env.reset(seed=0)
    names = {"collate_graphs": collate_graphs, "env": env, "encoder": lambda seen: seen.ops}
    exec(code, names)
    assert names["scores"].shape == (6, len(OP_COLUMNS))  # type: ignore[attr-defined]


def test_the_example_of_the_docstring_runs() -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(GraphEnv, "GraphEnv", globs=globals())
    assert test.examples
    assert not doctest.DocTestRunner().run(test).failed
