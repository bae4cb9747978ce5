"""The trials in tables: what was told, what it was named, and what others would have said of the same column.

python -m benchmarks.skew.results FILE
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.skew.faults import BOTH, FAULTS

_LATE = {fault.name for fault in FAULTS if fault.where == "late"}
DETECTORS = ("distances", "psi", "ks", "tfdv", "evidently")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault.

    Args:
        name: of its columns, for those that compare distributions.
        view, feature, dtype, fault, side, times: what was altered where, of how many times the critical share of rows.
        told: whether the webhook was told of a critical alert in the window of the fault.
        named: whether the check was the one that should be, and most of what was found is what it is.
        finding, levels: what most of what was found is called, and what each check came to.
        ended: whether the webhook was told of the end once it was mended.
        altered, rows: how many rows the fault altered, of how many that were judged.
        others: detector → whether it would have spoken; empty: of a type that they do not compare.
        seconds: of the wall clock, both windows.
    """

    name: str
    view: str
    feature: str | None
    dtype: str | None
    fault: str
    side: str
    times: float
    told: bool
    named: bool
    finding: str | None
    levels: dict[str, str]
    ended: bool
    altered: int
    rows: int
    others: dict[str, bool]
    seconds: float


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """A feature as it is served without any fault, and what the detectors say of it."""

    name: str
    others: dict[str, bool]


def write_json(path: Path, what: msgspec.Struct) -> None:
    """Write what came of something, as JSON that people can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(what), indent=1) + b"\n")


class Results(msgspec.Struct, kw_only=True):
    """All that was tried.

    Args:
        seed, days: of which keys and features, and how many days were online.
        left_out: faults that alter too few rows of any feature.
        trials, clean: what came of each.
    """

    seed: int
    days: int
    left_out: int = 0
    trials: list[Trial] = []
    clean: list[Clean] = []

    def keep(self, path: Path, evidently: Mapping[str, bool] | None = None) -> None:
        """Write all of it, with what Evidently says once it was asked."""
        if evidently is not None:
            self.trials = [_with(one, evidently) for one in self.trials]
            self.clean = [_with(one, evidently) for one in self.clean]
        write_json(path, self)


_One = TypeVar("_One", Trial, Clean)


def _with(one: _One, evidently: Mapping[str, bool]) -> _One:
    return msgspec.structs.replace(one, others={**one.others, "evidently": evidently[one.name]}) if one.others else one


def tell_of(results: Results) -> str:
    """All tables, in Markdown."""
    trials = results.trials
    skew, drift = [one for one in trials if one.side != BOTH], [one for one in trials if one.side == BOTH]
    wanted = [one for one in skew if one.times >= 1]
    named = [one for one in wanted if one.told]
    mended = [one for one in named if one.fault not in _LATE]
    said = [
        f"{len(trials)} trials of {len({one.fault for one in trials})} kinds of faults; {results.left_out} left out, whose fault"
        " alters too few rows of any feature.",
        f"At one row in a hundred and above: {sum(one.told for one in wanted)} of {len(wanted)} told,"
        f" {sum(one.named for one in named)} of {len(named)} named right;"
        f" of {len(mended)} that were mended {sum(one.ended for one in mended)}"
        " were told as ended in the next window (a publisher that stopped is mended by turning the clock back, before the alert).",
        _table("share of rows", sorted({one.times for one in skew}), lambda times: [one for one in skew if one.times == times]),
        _table("side", sorted({one.side for one in skew}), lambda side: [one for one in wanted if one.side == side]),
        _table("type", sorted({one.dtype or "any" for one in skew}), lambda d: [one for one in wanted if (one.dtype or "any") == d]),
        _table("fault", sorted({one.fault for one in skew}), lambda fault: [one for one in wanted if one.fault == fault]),
        _others("the same on both sides", sorted({one.fault for one in drift}), lambda f: [one for one in drift if one.fault == f]),
        _others("no fault", ["no fault"], lambda _: results.clean),
    ]
    missed = [one for one in wanted if not (one.told and one.named)]
    said += [f"missed or named otherwise: {_short(one)}" for one in missed]
    return "\n\n".join(said)


def _table(head: str, groups: Iterable[Any], of: Callable[[Any], Sequence[Trial]]) -> str:
    lines = [f"| {head} | trials | replay told | named right | {' | '.join(DETECTORS)} |", "| --- " * (4 + len(DETECTORS)) + "|"]
    for group in groups:
        mine = of(group)
        shown = f"{group / 100:g}" if isinstance(group, float) else group
        counts = [sum(one.told for one in mine), sum(one.named for one in mine)]
        lines.append(f"| {shown} | {len(mine)} | {counts[0]} | {counts[1]} | {' | '.join(_by_others(mine))} |")
    return "\n".join(lines)


def _others(head: str, groups: Iterable[str], of: Callable[[str], Sequence[Trial] | Sequence[Clean]]) -> str:
    lines = [f"| {head} | columns | replay told | {' | '.join(DETECTORS)} |", "| --- " * (3 + len(DETECTORS)) + "|"]
    for group in groups:
        mine = of(group)
        told = sum(isinstance(one, Trial) and one.told for one in mine)
        lines.append(f"| {group} | {len(mine)} | {told} | {' | '.join(_by_others(mine))} |")
    return "\n".join(lines)


def _by_others(trials: Sequence[Trial] | Sequence[Clean]) -> list[str]:
    """Detector for detector, of how many columns that it can compare it spoke."""
    judged = [one.others for one in trials if one.others]
    return [f"{sum(one[name] for one in judged)} of {len(judged)}" if judged and name in judged[0] else "-" for name in DETECTORS]


def _short(one: Trial) -> str:
    where = f"{one.view}.{one.feature}" if one.feature else one.view
    return f"{one.fault} ({one.side}, {one.times / 100:g} of {where}): told {one.told}, found {one.finding}, {one.levels}"


if __name__ == "__main__":
    print(tell_of(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Results)))
