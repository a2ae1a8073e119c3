"""What a report consists of: sections of text, tables and charts, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str


@dataclass(frozen=True)
class Table:
    """Rows of text; columns after the first `left` hold figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite drawing; its width is the page's."""

    name: str
    spec: Mapping[str, Any]
    label: str
    """What the chart shows, in words, for those who do not see it."""


@dataclass(frozen=True)
class Map:
    """The graph, drawn coarsely, with drill-down; the page's script draws it."""

    tree: Mapping[str, Any]
    label: str


@dataclass(frozen=True)
class Section:
    """A heading and what follows it."""

    name: str
    """Anchor within the page."""
    title: str
    blocks: Sequence[Text | Table | Chart | Map]


#: Devices keep their colour in all charts: told apart by most people, on white and on black.
DEVICE_COLOURS = (
    "#4e79d8", "#e8862e", "#3aa36b", "#c65bb0", "#d9534f", "#17a2b8", "#a88a2e", "#8a6fd1",
    "#7f8c8d", "#b5651d",
)  # fmt: skip


def device_colour(device: int) -> str:
    """Colour of a device by its position in the cluster."""
    return DEVICE_COLOURS[device % len(DEVICE_COLOURS)]


def milliseconds(seconds: float) -> float:
    """For charts: six significant digits are more than a screen shows."""
    return float(f"{seconds * 1e3:.6g}")
