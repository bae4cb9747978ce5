"""Charts as SVG, drawn by matplotlib without a screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import cycle
from typing import Any

from penstock.errors import RuntimeSetupError

COLORS = ("#b3261e", "#1f5fa8", "#2e7d32", "#8a5a00")
READABLE = 40
"""Rows of a heat map of which the names can still be read."""

_IN_A_ROW = 3


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str, title: str = "", ticks: Sequence[float] = ()
) -> str:
    """Name → x and y values, a line each; with ticks, x grows linearly to the first above 0 and logarithmically from there."""
    figure, axes = _axes(title, 7.2, 3.0)
    for color, (name, (xs, ys)) in zip(COLORS, series.items(), strict=False):
        axes.plot(xs, ys, label=name, color=color, linewidth=1.8, marker="o" if len(xs) == 1 else None)
    if ticks:
        axes.set_xscale("symlog", linthresh=min(tick for tick in ticks if tick > 0), linscale=0.5)
        highest = max((max(xs) for xs, _ in series.values() if len(xs)), default=0)
        shown = [tick for tick in ticks if tick <= highest * 1.5]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="#d9dee5", linewidth=0.6)
    axes.legend(frameon=False)
    return _svg(figure)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], *, y: str, title: str = "") -> str:
    """Name → a height for each group, side by side."""
    figure, axes = _axes(title, 7.2, 3.0)
    width = 0.8 / max(1, len(series))
    for n, (color, (name, heights)) in enumerate(zip(COLORS, series.items(), strict=False)):
        places = [place + n * width for place in range(len(groups))]
        drawn = axes.bar(places, heights, width * 0.92, label=name, color=color)
        axes.bar_label(drawn, fmt="%.3f", fontsize=8, padding=2)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], groups)
    axes.set_ylabel(y)
    axes.margins(y=0.15)
    axes.legend(frameon=False, ncols=len(series), loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return _svg(figure)


@dataclass(frozen=True)
class Panel:
    """One of several small charts: curves, or shares of groups side by side.

    Args:
        curves: name → x and y values.
        groups, shares: names of groups, and name → a share for each.
    """

    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    groups: Sequence[str] = ()
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)


def panels(of: Mapping[str, Panel]) -> str:
    """Title → a small chart, three in a row, under one legend: the same name has the same color in all."""
    names = list(dict.fromkeys(name for panel in of.values() for name in (*panel.curves, *panel.shares)))
    color = dict(zip(names, cycle(COLORS), strict=False))
    rows = -(-len(of) // _IN_A_ROW)
    figure, _ = _axes("", 11.0, 0.4 + 2.1 * rows)
    figure.clear()
    known = {}
    for n, (title, panel) in enumerate(of.items()):
        axes = figure.add_subplot(rows, _IN_A_ROW, n + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        for name, (xs, ys) in panel.curves.items():
            (known[name],) = axes.plot(xs, ys, color=color[name], linewidth=1.5)
        width = 0.8 / max(1, len(panel.shares))
        for place, (name, shares) in enumerate(panel.shares.items()):
            known[name] = axes.bar([k + place * width for k in range(len(shares))], shares, width * 0.92, color=color[name])
        if panel.groups:
            axes.set_xticks([k + 0.4 - width / 2 for k in range(len(panel.groups))], panel.groups, rotation=25, ha="right")
    figure.legend([known[name] for name in names], names, frameon=False, ncols=len(names), loc="outside lower center", fontsize=8)
    return _svg(figure)


def heat(rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float | None]], *, title: str = "") -> str:
    """A cell for each row and column, darker for a greater share, 0 to 1, logarithmic from 0.01 % on; None: nothing to see."""
    figure, axes = _axes(title, 11.0, 0.9 + 0.22 * len(rows))
    from matplotlib.colors import SymLogNorm  # noqa: PLC0415

    values = [[float("nan") if share is None else share for share in row] for row in shares]
    drawn = axes.pcolormesh(values, cmap="Reds", norm=SymLogNorm(1e-4, vmin=0, vmax=1), edgecolors="#eef1f5", linewidth=0.4)
    axes.set_facecolor("#d3d9e0")
    axes.set_yticks([n + 0.5 for n in range(len(rows))], rows, fontsize=8)
    every = max(1, -(-len(columns) // 14))
    axes.set_xticks([n + 0.5 for n in range(0, len(columns), every)], columns[::every], fontsize=7)
    axes.invert_yaxis()
    scale = figure.colorbar(drawn, ax=axes, ticks=[0, 1e-3, 1e-2, 1e-1, 1], pad=0.01, fraction=0.02, aspect=12, anchor=(0, 1))
    scale.ax.set_yticklabels(["0", "0.1 %", "1 %", "10 %", "100 %"], fontsize=7)
    return _svg(figure)


def _axes(title: str, width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # only who draws needs it
    except ModuleNotFoundError:
        raise RuntimeSetupError(
            "a report needs the package 'matplotlib', which is not installed", hint="pip install 'penstock[report]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, loc="left")
    return figure, axes


def _svg(figure: Any) -> str:
    out = StringIO()
    # The same figure is the same text: no date in it, and ids that do not change.
    import matplotlib  # noqa: PLC0415

    with matplotlib.rc_context({"svg.hashsalt": "penstock", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    return text[text.index("<svg") :]
