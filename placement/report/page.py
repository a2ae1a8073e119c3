"""One HTML file that needs nothing else: text, tables, charts and the library that draws them."""

import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from graphs.visible_text import visible
from placement.report.blocks import Chart, Map, Section, Table, Text
from placement.report.chart_library import chart_library

_ZOOM = (
    '<div class="zoom" role="group" aria-label="Zoom of the schedule">'
    + "".join(
        f'<button type="button" data-zoom="{key}">{name}</button>'
        for key, name in (
            ("in", "Zoom in"),
            ("out", "Zoom out"),
            ("earlier", "Earlier"),
            ("later", "Later"),
            ("all", "Whole step"),
        )
    )
    + "</div>"
)

#: Cells longer than that may break.
_LONG = 40


def page_html(title: str, head: str, sections: Sequence[Section]) -> str:
    """A page that loads nothing from anywhere, whatever it is opened with.

    Args:
        title: of the page, as text.
        head: HTML below the title.
        sections: in order; names must be unique, of charts as well.
    """
    data: dict[str, Any] = {"charts": {}, "map": None}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Chart):
                data["charts"][block.name] = block.spec
            elif isinstance(block, Map):
                data["map"] = block.tree
    links = "".join(f'<a href="#{item.name}">{escape(item.title)}</a>' for item in sections)
    body = "".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_asset('page.css')}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f"<header><h1>{escape(title)}</h1>{head}</header>\n"
        f'<nav aria-label="Sections">{links}</nav>\n<main id="main">\n'
        "<noscript><p>Charts need JavaScript; all figures are in the tables.</p></noscript>\n"
        f"{body}</main>\n"
        f'<script type="application/json" id="data">{_json(data)}</script>\n'
        f"<script>{chart_library()}</script>\n<script>{_asset('page.js')}</script>\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """Text as HTML shows it, between tags and in attributes; what cannot be seen is written out."""
    return html.escape(visible(text))


def key_figures(figures: Sequence[tuple[str, str]]) -> str:
    """A row of names and values, as HTML."""
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures
    )
    return f'<dl class="figures">{cells}</dl>'


def _section(section: Section) -> str:
    blocks = "".join(_block(block) for block in section.blocks)
    return (
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">'
        f'<h2 id="{section.name}-title">{escape(section.title)}</h2>{blocks}</section>\n'
    )


def _block(block: Text | Table | Chart | Map) -> str:
    match block:
        case Text():
            return f"<p>{escape(block.words)}</p>"
        case Table():
            return _table(block)
        case Chart():
            label = escape(block.label)
            zoom = _ZOOM if block.name == "gantt" else ""
            return (
                f'<figure>{zoom}<div class="chart" data-chart="{block.name}" role="img" '
                f'aria-label="{label}"></div></figure>'
            )
        case Map():
            label = escape(block.label)
            return (
                f'<div id="map" aria-label="{label}" role="group"><nav id="map-path" '
                'aria-label="Opened groups"></nav><div id="map-chart" class="chart" role="img" '
                f'aria-label="{label}"></div><div id="map-list"></div></div>'
            )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{"" if index < table.left else " class=figure"}>{escape(name)}</th>'
        for index, name in enumerate(table.columns)
    )
    rows = "".join(
        "<tr>"
        + "".join(_cell(text, index >= table.left) for index, text in enumerate(row))
        + "</tr>"
        for row in table.rows
    )
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    name = escape(table.caption or "table")
    return (
        f'{caption}<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str, is_figure: bool) -> str:
    kind = " class=figure" if is_figure else " class=long" if len(text) > _LONG else ""
    return f"<td{kind}>{escape(text)}</td>"


def _json(data: Any) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(_visible(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _visible(value: Any) -> Any:
    """The same with every string made fit to be shown."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {key: _visible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(item) for item in value]
    return value


@cache
def _asset(name: str) -> str:
    return (files("placement") / "report" / name).read_text(encoding="utf-8")
