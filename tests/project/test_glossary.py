"""The glossary names what is there, and says each word once."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)[1:]
NAMES = sorted({name for *_, where in ROWS for name in re.findall(r"`([a-z][\w.]*)`", where)})


def test_each_word_is_explained_once() -> None:
    words = [word for word, *_ in ROWS]
    assert len(words) >= 40
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_glossary_points_to_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    if attribute[0].isupper():
        assert hasattr(importlib.import_module(module), attribute)
    else:
        importlib.import_module(name)
