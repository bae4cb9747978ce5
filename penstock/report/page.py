"""A page of one file: a title, and below it texts, numbers, tables and pictures in the order they are given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6876; --line: #d9dee5; --paper: #ffffff; --band: #f4f6f9; --mark: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa6b4; --line: #333c48; --paper: #14181e; --band: #1b2129; --mark: #ff8a80; }
  figure { background: #ffffff; border-radius: 6px; }
}
body { margin: 0 auto; max-width: 1240px; padding: 2.5rem 1.5rem 4rem; font: 15px/1.55 system-ui, sans-serif; color: var(--ink);
       background: var(--paper); }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p { max-width: 46rem; } .soft { color: var(--soft); }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.4rem 0; }
.numbers div { border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1rem; min-width: 9rem; }
.numbers b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child, .left { text-align: left; }
tbody tr:nth-child(even) { background: var(--band); } figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .87rem; padding: .2rem .4rem; } .bar { display: inline-block; height: .6rem;
  background: var(--mark); border-radius: 2px; vertical-align: middle; margin-right: .5rem; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Numbers:
    """A few numbers that matter, each with what it counts."""

    values: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Args:
        columns: their headings.
        rows: a text a column.
        left: which columns besides the first are set left.
        bars: column → for each row a share, 0 to 1, shown as a bar before the text.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = ()
    bars: dict[int, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An SVG, and what it shows."""

    svg: str
    caption: str


Part: TypeAlias = Heading | Text | Numbers | Table | Picture


def page(title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """The page as HTML; every text is escaped."""
    body = "\n".join(_html(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><h1>{escape(title)}</h1><div class="soft">{escape(subtitle)}</div>\n{body}\n</body></html>\n'
    )


def _html(part: Part) -> str:
    match part:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Numbers(values):
            boxes = "".join(f'<div><b>{escape(value)}</b><span class="soft">{escape(name)}</span></div>' for value, name in values)
            return f'<div class="numbers">{boxes}</div>'
        case Picture(svg, caption):
            return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        case Table():
            return _table(part)


def _table(table: Table) -> str:
    sides = ["left" if n in table.left else "" for n in range(len(table.columns))]
    head = "".join(f'<th class="{side}">{escape(name)}</th>' for side, name in zip(sides, table.columns, strict=True))
    rows = []
    for number, row in enumerate(table.rows):
        cells = []
        for n, (side, text) in enumerate(zip(sides, row, strict=True)):
            bar = f'<span class="bar" style="width:{100 * table.bars[n][number]:.1f}px"></span>' if n in table.bars else ""
            cells.append(f'<td class="{side}">{bar}{escape(text)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
