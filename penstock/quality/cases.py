"""What differs in a stretch of the feature log, case by case.

    rows that differ ──► cases: same key, found the same, expected the same ──► one of each is judged ──► all rows of it are named

Rows of the log repeat: what is served of a key stays what it is until something is published. So one row stands for all of its case.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.as_of import Row
from penstock.clock import from_micros, to_micros
from penstock.offline.lake import Lake
from penstock.quality.findings import SAME, Finding, Judge, Records, rows_of
from penstock.quality.logged_values import Mask
from penstock.serving.judgement import Outcome

JUDGED = 5_000
"""Of what differs in one window of one view, how many cases are named one by one; rows of the others are taken to be as these are, but
never to be altered: that has to be seen."""

EXAMPLES = 10
"""How many rows that differ are shown."""

NEVER = 2**62
"""A ttl in microseconds that no age exceeds."""

_ALTERED = (Finding.VALUE, Finding.TYPE)

Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A row that differs.

    Args:
        request_id, row, at: which row of which answer, and the time its values were judged at.
        key: join key → value.
        finding: what it is.
        served, expected: event time and attempt; None: nothing.
        values: feature → what was served and what the lake gives, of the features that differ.
    """

    request_id: str
    row: int
    at: datetime
    key: Mapping[str, Any]
    finding: Finding
    served: tuple[datetime, int] | None
    expected: datetime | None
    values: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class LoggedRows:
    """Rows of the feature log, of one fill of a view version, beside what the lake gives for them: all columns of n.

    Args:
        lake: where the view's rows are.
        records: what the lake's logs say of the fill.
        logged: what was served.
        event_time, known_at: of the lake's rows; null: there is none.
        values: the view's features, as the lake has them.
        join_keys: name and dtype of each.
        keys, key_of: the different keys, and which of them each row is of.
        ttls: what each row was served by, in microseconds; `NEVER`: no age is too great.
        outcomes: what came of reading each.
    """

    lake: Lake
    records: Records
    logged: pa.Table
    event_time: pa.ChunkedArray
    known_at: pa.ChunkedArray
    values: pa.Table
    join_keys: Sequence[tuple[str, str]]
    keys: Sequence[tuple[Any, ...]]
    key_of: Places
    ttls: Places
    outcomes: Sequence[Outcome]

    def key(self, place: int) -> tuple[Any, ...]:
        return self.keys[int(self.key_of[place])]

    def held(self, place: int) -> tuple[int, int, int] | None:
        """Event time, attempt and checksum of what was found."""
        event_time = self.logged["event_time"][place]
        if not event_time.is_valid:
            return None
        return event_time.value, self.logged["attempt"][place].as_py(), self.logged["checksum"][place].as_py()


@dataclass(frozen=True)
class Named:
    """What the rows that differ are.

    Args:
        findings: how many are what.
        benign: which of all rows differ and are right all the same.
        altered: which hold what the lake does not have.
        unjudged: which were not looked at.
        examples: some of those that are not right.
    """

    findings: Counter[Finding]
    benign: Mask
    altered: Mask
    unjudged: Mask
    examples: list[Example]


def named(rows: LoggedRows, suspects: Places, differing: Mapping[str, Mask], wrong_type: Mask) -> Named:
    """Name the rows that differ.

    Args:
        rows: n of them.
        suspects: the places of those that differ.
        differing: feature → which of the n were served another value than the lake's.
        wrong_type: which of the n hold a value that is not of its feature's type.
    """
    benign, altered, unjudged = np.zeros((3, rows.logged.num_rows), np.bool_)
    findings: Counter[Finding] = Counter()
    examples: list[Example] = []
    if not len(suspects):
        return Named(findings, benign, altered, unjudged, examples)
    case_of = _cases(rows, suspects, wrong_type)
    firsts = suspects[np.unique(case_of, return_index=True)[1]]  # by number of the case
    chosen = np.arange(len(firsts))
    if len(firsts) > JUDGED:
        chosen = np.sort(np.random.default_rng(len(firsts)).choice(len(firsts), JUDGED, replace=False))
    of_keys = _rows_of_keys(rows, firsts[chosen])
    how_many = np.bincount(case_of)
    is_benign, is_altered, is_judged = np.zeros((3, len(firsts)), np.bool_)
    is_judged[chosen] = True
    for case in chosen.tolist():
        place = int(firsts[case])
        finding = Finding.TYPE if wrong_type[place] else _finding(rows, place, of_keys.get(rows.key(place), ()))
        findings[finding] += int(how_many[case])
        is_benign[case], is_altered[case] = finding in SAME, finding in _ALTERED
        if finding not in SAME and len(examples) < EXAMPLES:
            examples.append(example(rows, place, finding, differing))
    benign[suspects], altered[suspects], unjudged[suspects] = is_benign[case_of], is_altered[case_of], ~is_judged[case_of]
    others = np.flatnonzero(unjudged)
    if len(others):
        like = Counter({finding: count for finding, count in findings.items() if finding not in _ALTERED}) or Counter({Finding.STALE: 1})
        shares = {finding: count / like.total() for finding, count in like.items()}
        benign[others[: round(sum(shares.get(finding, 0) for finding in SAME) * len(others))]] = True
        findings += Counter({finding: round(share * len(others)) for finding, share in shares.items()})
    return Named(findings, benign, altered, unjudged, examples)


def by_attempt(rows: LoggedRows, seen: Named) -> dict[int, tuple[int, int]]:
    """Attempt → rows served of it that were looked at, and how many of them hold what the lake does not have."""
    looked_at = rows.logged.select(["attempt"]).append_column("altered", pa.array(seen.altered)).filter(pa.array(~seen.unjudged))
    counts = looked_at.drop_null().group_by("attempt").aggregate([("altered", "count"), ("altered", "sum")])
    return {row["attempt"]: (row["altered_count"], row["altered_sum"]) for row in counts.to_pylist()}


def example(rows: LoggedRows, place: int, finding: Finding, differing: Mapping[str, Mask]) -> Example:
    """A row as it is shown; see `named`."""
    logged, held = rows.logged, rows.held(place)
    prefix = f"{logged['name'][place].as_py()}__"
    names = [name.removeprefix(prefix) for name in logged["features"][place].as_py()]
    served = dict(zip(names, msgspec.json.decode(logged["values"][place].as_py()), strict=True))
    return Example(
        request_id=logged["request_id"][place].as_py(),
        row=logged["row"][place].as_py(),
        at=logged["at"][place].as_py(),
        key={name: value for (name, _), value in zip(rows.join_keys, rows.key(place), strict=True)},
        finding=finding,
        served=None if held is None else (from_micros(held[0]), held[1]),
        expected=rows.event_time[place].as_py(),
        values={
            name: (served[name], rows.values[name][place].as_py()) for name, mask in differing.items() if mask[place] and name in served
        },
    )


def _cases(rows: LoggedRows, suspects: Places, wrong_type: Mask) -> Places:
    """The number of each suspect's case: those of one are of the same key, found the same, and are expected the same, between two
    moments at which what is to be thought of it may change."""
    moments = np.array([to_micros(at) for at in rows.records.moments()], np.int64)
    at = rows.logged["at"].cast(pa.int64()).to_numpy()
    columns = {
        **{name: rows.logged[name] for name in ("outcome", "event_time", "attempt", "checksum")},
        "known_at": rows.known_at,
        "expected": rows.event_time,
        "key": pa.array(rows.key_of),
        "ttl": pa.array(rows.ttls),
        "type": pa.array(wrong_type),
        "moment": pa.array(np.searchsorted(moments, at, side="right")),
    }
    of = pa.table(columns).take(pa.array(suspects))
    cases = of.append_column("place", pa.array(np.arange(len(suspects)))).group_by(list(columns), use_threads=False)
    grouped = cases.aggregate([("place", "list")])["place_list"].combine_chunks()
    number = np.empty(len(suspects), np.int64)
    number[grouped.flatten().to_numpy()] = np.repeat(np.arange(len(grouped)), grouped.value_lengths().to_numpy())
    return number


def _rows_of_keys(rows: LoggedRows, places: Places) -> dict[tuple[Any, ...], list[Row]]:
    """The rows that decide what these are: of keys of which something was found and is expected, from the older of both on; of the
    others all, for it counts whether there was anything at all."""
    since: dict[tuple[Any, ...], datetime | None] = {}
    for place in places.tolist():
        key, held, due = rows.key(place), rows.logged["event_time"][place].as_py(), rows.event_time[place].as_py()
        oldest = None if held is None or due is None else min(held, due)
        known = since.get(key, oldest)
        since[key] = None if oldest is None or known is None else min(oldest, known)
    bounded = {key: at for key, at in since.items() if at is not None}
    lake, entry, join_keys = rows.lake, rows.records.entry, rows.join_keys
    found = rows_of(lake, entry, join_keys, since.keys() - bounded.keys())
    return {**found, **rows_of(lake, entry, join_keys, set(bounded), min(bounded.values(), default=None))}


def _finding(rows: LoggedRows, place: int, of_key: Sequence[Row]) -> Finding:
    ttl = int(rows.ttls[place])
    judge = Judge(rows.records, rows.logged["at"][place].as_py(), None if ttl == NEVER else ttl)
    return judge.finding(of_key, rows.outcomes[place], rows.held(place), judge.expected(of_key))
