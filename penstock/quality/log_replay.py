"""The feature log computed again: what was served beside what training gives for the same keys at the same times.

    log/served ──► keys and times as a spine ──► the point-in-time join, by the ledger ──► equal, feature by feature
                                                                             └──► differs ──► `findings.Judge` names it

The join is the one that makes training sets, in mode `observed`. Who may differ and be right (a value ahead of its ledger row, or out
of a cache for as long as the view allows) is told by the judge, and counted apart.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.as_of import Row
from penstock.clock import from_micros, to_micros
from penstock.contract.view import FeatureView
from penstock.errors import InvalidEntity
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, feature_table, rows_where
from penstock.offline.registry_log import snapshots
from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.online.codec import decode_key
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import TableRows
from penstock.point_in_time.view_join import ViewJoin
from penstock.quality.findings import SAME, Finding, Judge, Records, rows_of
from penstock.quality.logged_values import Mask, differ, typed
from penstock.quality.served_log import SERVED, served_of
from penstock.registry.snapshot import view_entry
from penstock.serving.judgement import Outcome

JUDGED = 5_000
"""Of what differs in one window of one view, how many cases are named one by one; rows of the others are taken to be as these are, but
never to be altered: that has to be seen."""

_EXAMPLES = 10
_NEVER = 2**62  # a ttl that no age exceeds
_ROW = "__row"
_LAKE = "lake"
_COMPARED = {Outcome.FRESH, Outcome.LATE, Outcome.ABSENT, Outcome.EXPIRED, Outcome.INVALIDATED}
_ALTERED = (Finding.VALUE, Finding.TYPE)
_AS_THEY_ARE = {Outcome.CORRUPT: Finding.VALUE, Outcome.FUTURE: Finding.VALUE, Outcome.UNKNOWN_SCHEMA: Finding.TYPE}


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
class ViewReplay:
    """One fill of a view version in a stretch of the feature log.

    Args:
        view, generation: which.
        rows: logged rows that were compared.
        changes: of how many different rows of the table, or keys without one, they are.
        unserved: rows of which nothing of the store was served, as the store did not answer; they are labelled, and not compared.
        late: rows served as later than the view's SLA.
        findings: how many rows are what; `equal` included.
        differing: feature → rows whose served value is another than the lake's, where that is not one of `findings.SAME`.
        compared: feature → rows with the feature.
        attempts: attempt → how many rows were served of it, and how many of these hold what the lake does not have.
        unjudged: how many of the rows that differ were not looked at one by one.
        examples: some of the rows that differ.
        served: feature → what the values that were served are like; empty: it was not asked for.
    """

    view: str
    generation: int
    rows: int
    changes: int
    unserved: int
    late: int
    findings: Mapping[Finding, int]
    differing: Mapping[str, int]
    compared: Mapping[str, int]
    unjudged: int
    attempts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    examples: Sequence[Example] = field(default=())
    served: Mapping[str, ColumnStatistics] = field(default_factory=dict)


def replay_log(
    lake: Lake, view: FeatureView, since: datetime, until: datetime, resources: Resources, *, service: str = "", statistics: bool = False
) -> list[ViewReplay]:
    """Compare what was logged of a view version in `[since, until)` with what the lake gives.

    Args:
        lake: where the log, the logs of attempts and publications and the view's rows are.
        view: the view version. Its features are compared by name; what was logged of a feature it no longer has is left out.
        since, until: in which stretch, by the time that values were judged at.
        resources: what the join may use.
        service: of what this service was served; empty: of all.
        statistics: whether to tell what the values that were served are like.

    Returns:
        One for each fill of the view version that was served; none where nothing is logged.
    """
    logged = _logged(lake, view, since, until, service)
    version = lake.version(feature_table(view))
    if not logged.num_rows or version is None:
        return []
    ttls = _ttls(lake, view, logged["snapshot"])
    found = []
    for generation in sorted(pc.unique(logged["generation"]).to_pylist()):
        mine = pc.equal(logged["generation"], generation)
        fill = _Fill(
            lake, view, generation, version, logged.filter(mine), ttls[mine.combine_chunks().to_numpy(zero_copy_only=False)], resources
        )
        found.append(fill.replayed(statistics=statistics))
    return found


def _ttls(lake: Lake, view: FeatureView, served_under: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The ttl in microseconds that each row was served by: that of the definitions it was served under, where the lake has these."""
    known = {one.fingerprint: one.snapshot for one in snapshots(lake)}
    under = served_under.combine_chunks().dictionary_encode()
    mine = _micros(view_entry(view).ttl_us)
    of_each = []
    for fingerprint in under.dictionary.to_pylist():
        views = known[fingerprint].views if fingerprint in known else []
        of_each.append(next((_micros(one.ttl_us) for one in views if (one.name, one.version) == (view.name, view.version)), mine))
    places: npt.NDArray[np.int64] = under.indices.to_numpy()
    return np.array(of_each, np.int64)[places]


def _micros(ttl_us: int | None) -> int:
    return _NEVER if ttl_us is None else ttl_us


def _logged(lake: Lake, view: FeatureView, since: datetime, until: datetime, service: str) -> pa.Table:
    names = [
        "at",
        "request_id",
        "row",
        "snapshot",
        "name",
        "generation",
        "key",
        "outcome",
        "event_time",
        "attempt",
        "checksum",
        "features",
        "values",
        "statuses",
    ]
    where = served_of(view, since, until) & pc.field("key").is_valid() & (pc.field("entity") == view.entity.name)
    if service:
        where = where & (pc.field("service") == service)
    try:
        return rows_where(lake.dataset(SERVED), where, names)
    except TableNotFoundError:
        return pa.table({name: [] for name in names})


class _Fill:
    """One fill of a view version: n logged rows, all columns of n."""

    def __init__(
        self,
        lake: Lake,
        view: FeatureView,
        generation: int,
        version: int,
        logged: pa.Table,
        ttls: npt.NDArray[np.int64],
        resources: Resources,
    ) -> None:
        self._lake, self._view, self._generation, self._logged, self._ttls = lake, view, generation, logged, ttls
        self._records = Records.of(lake, view_entry(view), generation)
        self._keys = list(view.entity.join_keys.items())
        self._joined = self._join(version, resources)
        self._outcomes = [Outcome[name.upper()] for name in logged["outcome"].to_pylist()]

    def _join(self, version: int, resources: Resources) -> pa.Table:
        view = self._view
        encoded = self._logged["key"].combine_chunks().dictionary_encode()
        self._of_key: list[tuple[Any, ...]] = [_decoded(self._keys, key) for key in encoded.dictionary.to_pylist()]
        self._key_of = encoded.indices.to_numpy()
        columns = {
            name: pa.array([key[place] for key in self._of_key], arrow_type(dtype)).take(encoded.indices)
            for place, (name, dtype) in enumerate(self._keys)
        }
        spine = pa.table({**columns, "event_time": self._logged["at"], _ROW: np.arange(self._logged.num_rows)})
        longest = int(self._ttls.max())
        of_view = ViewJoin(
            view=replace(view, ttl=None if longest == _NEVER else timedelta(microseconds=longest)),
            features=tuple(view.feature_names),
            mode="observed",
            history=self._records.history,
            version=version,
            name=_LAKE,
            on={name: name for name, _ in self._keys},
            with_times=True,
        )
        joined = join(self._lake, TableRows(spine), [of_view], resources).to_arrow()
        return self._without_expired(joined.take(pc.sort_indices(joined[_ROW])))

    def _without_expired(self, joined: pa.Table) -> pa.Table:
        """Without what was too old already by the ttl a row was served by, where that was shorter than others'."""
        if self._ttls.min() == self._ttls.max():
            return joined
        age = pc.subtract(self._logged["at"].cast(pa.int64()), joined[f"{_LAKE}__event_time"].cast(pa.int64()))
        is_usable = pc.less_equal(age, pa.array(self._ttls)).combine_chunks()
        of_lake = [name for name in joined.column_names if name.startswith(f"{_LAKE}__")]
        for name in of_lake:
            column = joined[name]
            joined = joined.set_column(joined.column_names.index(name), name, pc.if_else(is_usable, column, pa.scalar(None, column.type)))
        return joined

    def replayed(self, *, statistics: bool) -> ViewReplay:
        n = self._logged.num_rows
        outcomes = np.array([str(outcome) for outcome in self._outcomes])
        comparable = np.isin(outcomes, [str(outcome) for outcome in _COMPARED])
        odd = np.isin(outcomes, [str(outcome) for outcome in _AS_THEY_ARE])
        differing, has, wrong_type, served = self._by_feature(statistics=statistics)
        elsewhere = differ(self._logged["event_time"], self._joined[f"{_LAKE}__event_time"]) & (outcomes != str(Outcome.EXPIRED))
        any_differs = np.logical_or.reduce([*differing.values(), elsewhere])
        suspects = np.flatnonzero(comparable & (any_differs | wrong_type))
        findings, benign, altered, unjudged, examples = self._judge(suspects, differing, wrong_type)
        for outcome, finding in _AS_THEY_ARE.items():
            found = np.flatnonzero(outcomes == str(outcome))
            findings[finding] += len(found)
            examples += [self._example(place, finding, differing) for place in found[:_EXAMPLES].tolist()]
        bad = (comparable & any_differs & ~benign) | odd
        compared = int((comparable | odd).sum())
        findings[Finding.EQUAL] += compared - sum(findings.values())
        return ViewReplay(
            view=self._view.ref,
            generation=self._generation,
            rows=compared,
            changes=self._changes(comparable | odd),
            unserved=n - compared,
            late=int((outcomes == str(Outcome.LATE)).sum()),
            findings={finding: count for finding, count in findings.items() if count},
            differing={name: int(((mask & bad) | (odd & has[name])).sum()) for name, mask in differing.items()},
            compared={name: int((mask & (comparable | odd)).sum()) for name, mask in has.items()},
            unjudged=int(unjudged.sum()),
            attempts=self._by_attempt(altered, unjudged),
            examples=tuple(examples[:_EXAMPLES]),
            served=served,
        )

    def _by_feature(self, *, statistics: bool) -> tuple[dict[str, Mask], dict[str, Mask], Mask, dict[str, ColumnStatistics]]:
        """Feature → which rows were served another value than the lake's, feature → which rows have it, which rows hold a value that is
        not of its type, and feature → what its values are like."""
        n, dtypes = self._logged.num_rows, {feature.name: feature.dtype for feature in self._view.features}
        differing = {name: np.zeros(n, np.bool_) for name in dtypes}
        has = {name: np.zeros(n, np.bool_) for name in dtypes}
        wrong_type = np.zeros(n, np.bool_)
        served: list[dict[str, ColumnStatistics]] = []
        for names, places in self._by_selection():
            texts = self._logged["values"].take(places).combine_chunks().dictionary_encode()
            rows, text_of = [msgspec.json.decode(text) for text in texts.dictionary.to_pylist()], texts.indices.to_numpy()
            for place, name in enumerate(names):
                if name not in dtypes:
                    continue
                values, is_wrong = typed([row[place] for row in rows], dtypes[name])
                expected = self._joined[f"{_LAKE}__{name}"].take(places)
                where = places.to_numpy()
                has[name][where] = True
                wrong_type[where] |= is_wrong[text_of]
                values = values.take(texts.indices)
                differing[name][where] = differ(values, expected) | is_wrong[text_of]
                if statistics:
                    served.append(statistics_of(pa.table({name: values}), [name], distinct=False))
        return differing, has, wrong_type, merged(served)

    def _by_selection(self) -> Iterator[tuple[list[str], pa.Array]]:
        """Which features were asked for, and in which rows: services take some of a view's each, under a name of their own."""
        asked = pc.binary_join(self._logged["features"].combine_chunks(), "\0")
        asked = pc.binary_join_element_wise(self._logged["name"].combine_chunks(), asked, "\0").dictionary_encode()
        for number, selection in enumerate(asked.dictionary.to_pylist()):
            name, *features = selection.split("\0")
            yield [feature.removeprefix(f"{name}__") for feature in features], pa.array(np.flatnonzero(asked.indices.to_numpy() == number))

    def _judge(
        self, suspects: npt.NDArray[Any], differing: Mapping[str, Mask], wrong_type: Mask
    ) -> tuple[Counter[Finding], Mask, Mask, Mask, list[Example]]:
        """What the rows that differ are, which of them are right all the same, which hold what the lake does not have, which were not
        looked at, and some that are not right."""
        benign, altered, unjudged = np.zeros((3, self._logged.num_rows), np.bool_)
        if not len(suspects):
            return Counter(), benign, altered, unjudged, []
        case_of = self._cases(suspects, wrong_type)
        firsts = suspects[np.unique(case_of, return_index=True)[1]]  # by number of the case
        chosen = np.arange(len(firsts))
        if len(firsts) > JUDGED:
            chosen = np.sort(np.random.default_rng(len(firsts)).choice(len(firsts), JUDGED, replace=False))
        rows = self._rows_of(firsts[chosen])
        named: Counter[Finding] = Counter()
        examples: list[Example] = []
        how_many = np.bincount(case_of)
        is_benign, is_altered, is_judged = np.zeros((3, len(firsts)), np.bool_)
        is_judged[chosen] = True
        for case in chosen.tolist():
            place = int(firsts[case])
            finding = Finding.TYPE if wrong_type[place] else self._finding(place, rows)
            named[finding] += int(how_many[case])
            is_benign[case], is_altered[case] = finding in SAME, finding in _ALTERED
            if finding not in SAME and len(examples) < _EXAMPLES:
                examples.append(self._example(place, finding, differing))
        benign[suspects], altered[suspects], unjudged[suspects] = is_benign[case_of], is_altered[case_of], ~is_judged[case_of]
        others = np.flatnonzero(unjudged)
        if len(others):
            like = Counter({finding: count for finding, count in named.items() if finding not in _ALTERED}) or Counter({Finding.STALE: 1})
            shares = {finding: count / like.total() for finding, count in like.items()}
            benign[others[: round(sum(shares.get(finding, 0) for finding in SAME) * len(others))]] = True
            named += Counter({finding: round(share * len(others)) for finding, share in shares.items()})
        return named, benign, altered, unjudged, examples

    def _cases(self, suspects: npt.NDArray[Any], wrong_type: Mask) -> npt.NDArray[np.int64]:
        """The number of each suspect's case: those of one are of the same key, found the same, and are expected the same, between two
        moments at which what is to be thought of it may change. So one stands for all."""
        moments = np.array([to_micros(at) for at in self._records.moments()], np.int64)
        at = self._logged["at"].cast(pa.int64()).to_numpy()
        columns = {
            **{name: self._logged[name] for name in ("outcome", "event_time", "attempt", "checksum")},
            "known_at": self._joined[f"{_LAKE}__known_at"],
            "expected": self._joined[f"{_LAKE}__event_time"],
            "key": pa.array(self._key_of),
            "ttl": pa.array(self._ttls),
            "type": pa.array(wrong_type),
            "moment": pa.array(np.searchsorted(moments, at, side="right")),
        }
        of = pa.table(columns).take(pa.array(suspects))
        cases = of.append_column("place", pa.array(np.arange(len(suspects)))).group_by(list(columns), use_threads=False)
        grouped = cases.aggregate([("place", "list")])["place_list"].combine_chunks()
        number = np.empty(len(suspects), np.int64)
        number[grouped.flatten().to_numpy()] = np.repeat(np.arange(len(grouped)), grouped.value_lengths().to_numpy())
        return number

    def _rows_of(self, places: npt.NDArray[Any]) -> dict[Any, list[Row]]:
        """The rows that decide what these are: of keys of which something was found and is expected, from the older of both on; of the
        others all, for it counts whether there was anything at all."""
        served, expected = (self._logged["event_time"], self._joined[f"{_LAKE}__event_time"])
        since: dict[tuple[Any, ...], datetime | None] = {}
        for place in places.tolist():
            key, held, due = self._of_key[self._key_of[place]], served[place].as_py(), expected[place].as_py()
            oldest = None if held is None or due is None else min(held, due)
            known = since.get(key, oldest)
            since[key] = None if oldest is None or known is None else min(oldest, known)
        bounded = {key: at for key, at in since.items() if at is not None}
        found = rows_of(self._lake, self._records.entry, self._keys, since.keys() - bounded.keys())
        return {**found, **rows_of(self._lake, self._records.entry, self._keys, set(bounded), min(bounded.values(), default=None))}

    def _by_attempt(self, altered: Mask, unjudged: Mask) -> dict[int, tuple[int, int]]:
        """Attempt → rows served of it that were looked at, and how many of them hold what the lake does not have."""
        found = self._logged.select(["attempt"]).append_column("altered", pa.array(altered)).filter(pa.array(~unjudged)).drop_null()
        counts = found.group_by("attempt").aggregate([("altered", "count"), ("altered", "sum")])
        return {row["attempt"]: (row["altered_count"], row["altered_sum"]) for row in counts.to_pylist()}

    def _finding(self, place: int, rows: Mapping[Any, Sequence[Any]]) -> Finding:
        of_key = rows.get(self._of_key[self._key_of[place]], ())
        ttl_us = int(self._ttls[place])
        judge = Judge(self._records, self._logged["at"][place].as_py(), None if ttl_us == _NEVER else ttl_us)
        return judge.finding(of_key, self._outcomes[place], self._held(place), judge.expected(of_key))

    def _held(self, place: int) -> tuple[int, int, int] | None:
        """Event time, attempt and checksum of what was found."""
        event_time = self._logged["event_time"][place]
        if not event_time.is_valid:
            return None
        return event_time.value, self._logged["attempt"][place].as_py(), self._logged["checksum"][place].as_py()

    def _example(self, place: int, finding: Finding, differing: Mapping[str, Mask]) -> Example:
        logged, held = self._logged, self._held(place)
        prefix = f"{logged['name'][place].as_py()}__"
        names = [name.removeprefix(prefix) for name in logged["features"][place].as_py()]
        served = dict(zip(names, msgspec.json.decode(logged["values"][place].as_py()), strict=True))
        return Example(
            request_id=logged["request_id"][place].as_py(),
            row=logged["row"][place].as_py(),
            at=logged["at"][place].as_py(),
            key={name: value for (name, _), value in zip(self._keys, self._of_key[self._key_of[place]], strict=True)},
            finding=finding,
            served=None if held is None else (from_micros(held[0]), held[1]),
            expected=self._joined[f"{_LAKE}__event_time"][place].as_py(),
            values={
                name: (served[name], self._joined[f"{_LAKE}__{name}"][place].as_py())
                for name, mask in differing.items()
                if mask[place] and name in served
            },
        )

    def _changes(self, among: Mask) -> int:
        """Distinct rows of the table, or keys without one: rows of the log that are of the same say the same."""
        columns = {"key": self._key_of, "event": self._joined[f"{_LAKE}__event_time"], "known": self._joined[f"{_LAKE}__known_at"]}
        return int(pa.table(columns).filter(pa.array(among)).group_by(list(columns)).aggregate([]).num_rows)


def _decoded(join_keys: Sequence[tuple[str, str]], key: bytes) -> tuple[Any, ...]:
    try:
        return decode_key(join_keys, key)
    except InvalidEntity:
        return (None,) * len(join_keys)  # of an entity as it was once: the lake has no such key
