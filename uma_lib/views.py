"""Small HTML for notebooks. Every text is escaped: what a model or a user wrote is shown, never run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LONGEST = 400  # characters of a cell
ROWS = 200  # of a table
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;padding:2px 8px"
COLOURS = {"+": "#e6f4ea", "-": "#fce8e6", "~": "#fef7e0", ">": "#e8f0fe"}  # added, removed, changed, renamed


def text(value: object, longest: int = LONGEST) -> str:
    """A text for a cell, escaped and cut.

    >>> text("<b>12</b>")
    '&lt;b&gt;12&lt;/b&gt;'
    """
    shown = str(value)
    return escape(shown if len(shown) <= longest else f"{shown[:longest]} … ({len(shown)} characters)")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], colours: Sequence[str | None] | None = None) -> str:
    """A table of escaped cells; ``colours`` of the rows, where there are any."""
    rows = list(rows)
    shown = rows[:ROWS]
    marks = colours or [None] * len(rows)
    body = "".join(
        f'<tr style="background:{mark};color:#202124">' * bool(mark)
        + "<tr>" * (not mark)
        + "".join(f'<td style="{_CELL}">{text(cell)}</td>' for cell in row)
        + "</tr>"
        for row, mark in zip(shown, marks, strict=False)
    )
    head = "".join(f'<th style="{_CELL}">{text(name)}</th>' for name in heads)
    more = f"<div>… and {len(rows) - len(shown)} more</div>" if len(rows) > len(shown) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def block(title: str, body: str, opened: bool = True) -> str:
    """A part that can be folded; ``body`` is HTML already."""
    return f"<details{' open' if opened else ''}><summary><b>{text(title)}</b></summary>{body}</details>"


def paragraph(value: object, longest: int = 4000) -> str:
    return f'<div style="white-space:pre-wrap;margin:2px 8px">{text(value, longest)}</div>'
