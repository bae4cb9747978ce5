"""The trials in tables: what was told, what it was named, and what others would have said of the same column.

python -m benchmarks.skew.results FILE
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.skew.faults import BOTH

Trial = Mapping[str, Any]
DETECTORS = ("distances", "psi", "ks", "tfdv", "evidently")


def tell_of(whole: Mapping[str, Any]) -> str:
    """All tables, in Markdown."""
    trials: Sequence[Trial] = whole["trials"]
    skew, drift = [one for one in trials if one["side"] != BOTH], [one for one in trials if one["side"] == BOTH]
    wanted = [one for one in skew if one["times"] >= 1]
    named = [one for one in wanted if one["told"]]
    said = [
        f"{len(trials)} trials of {len({one['fault'] for one in trials})} kinds of faults; {whole['left_out']} left out, whose fault"
        " alters too few rows of any feature.",
        f"At one row in a hundred and above: {sum(one['told'] for one in wanted)} of {len(wanted)} told,"
        f" {sum(one['named'] for one in named)} of {len(named)} named right, {sum(one['ended'] for one in named)} ended once mended.",
        _table("share of rows", sorted({one["times"] for one in skew}), lambda times: [one for one in skew if one["times"] == times]),
        _table("side", sorted({one["side"] for one in skew}), lambda side: [one for one in wanted if one["side"] == side]),
        _table("type", sorted({one["dtype"] or "any" for one in skew}), lambda d: [one for one in wanted if (one["dtype"] or "any") == d]),
        _table("fault", sorted({one["fault"] for one in skew}), lambda fault: [one for one in wanted if one["fault"] == fault]),
        _others("the same on both sides", sorted({one["fault"] for one in drift}), lambda f: [one for one in drift if one["fault"] == f]),
        _others("no fault", ["no fault"], lambda _: whole["clean"]),
    ]
    missed = [one for one in wanted if not (one["told"] and one["named"])]
    said += [f"missed or named otherwise: {_short(one)}" for one in missed]
    return "\n\n".join(said)


def _table(head: str, groups: Iterable[Any], of: Callable[[Any], Sequence[Trial]]) -> str:
    lines = [f"| {head} | trials | replay told | named right | {' | '.join(DETECTORS)} |", "| --- " * (4 + len(DETECTORS)) + "|"]
    for group in groups:
        mine = of(group)
        shown = f"{group / 100:g}" if isinstance(group, float) else group
        counts = [sum(bool(one[what]) for one in mine) for what in ("told", "named")]
        lines.append(f"| {shown} | {len(mine)} | {counts[0]} | {counts[1]} | {' | '.join(_by_others(mine))} |")
    return "\n".join(lines)


def _others(head: str, groups: Iterable[Any], of: Callable[[Any], Sequence[Trial]]) -> str:
    lines = [f"| {head} | columns | replay told | {' | '.join(DETECTORS)} |", "| --- " * (3 + len(DETECTORS)) + "|"]
    for group in groups:
        mine = of(group)
        told = sum(bool(one.get("told")) for one in mine)
        lines.append(f"| {group} | {len(mine)} | {told} | {' | '.join(_by_others(mine))} |")
    return "\n".join(lines)


def _by_others(trials: Sequence[Trial]) -> list[str]:
    """Detector for detector, of how many columns that it can compare it spoke."""
    judged = [one["others"] for one in trials if one["others"]]
    return [f"{sum(one[name] for one in judged)} of {len(judged)}" if judged and name in judged[0] else "-" for name in DETECTORS]


def _short(one: Trial) -> str:
    where = f"{one['view']}.{one['feature']}" if one["feature"] else one["view"]
    return f"{one['fault']} ({one['side']}, {one['times'] / 100:g} of {where}): told {one['told']}, found {one['finding']}, {one['levels']}"


if __name__ == "__main__":
    print(tell_of(json.loads(Path(sys.argv[1]).read_text())))
