"""The feature log computed again: what was served beside what training gives for the same keys at the same times.

    log/served ──► keys and times as a spine ──► the point-in-time join, by the ledger ──► equal, feature by feature
                                                                             └──► differs ──► `findings.Judge` names it

The join is the one that makes training sets, in mode `observed`. Who may differ and be right (a value ahead of its ledger row, or out
of a cache for as long as the view allows) is told by the judge, and counted apart.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.clock import from_micros
from penstock.contract.view import FeatureView
from penstock.errors import InvalidEntity
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, feature_table, rows_where
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
"""Of the rows that differ in one window of one view, how many are named one by one; the others are taken to be as these are."""

_EXAMPLES = 10
_ROW = "__row"
_LAKE = "lake"
_COMPARED = {Outcome.FRESH, Outcome.LATE, Outcome.ABSENT, Outcome.EXPIRED, Outcome.INVALIDATED}
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
        judged: how many of the rows that differ were named one by one.
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
    judged: int
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
    found = []
    for generation in sorted(pc.unique(logged["generation"]).to_pylist()):
        mine = logged.filter(pc.equal(logged["generation"], generation))
        found.append(_Fill(lake, view, generation, version, mine, resources).replayed(statistics=statistics))
    return found


def _logged(lake: Lake, view: FeatureView, since: datetime, until: datetime, service: str) -> pa.Table:
    names = [
        "at",
        "request_id",
        "row",
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

    def __init__(self, lake: Lake, view: FeatureView, generation: int, version: int, logged: pa.Table, resources: Resources) -> None:
        self._lake, self._view, self._generation, self._logged = lake, view, generation, logged
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
        of_view = ViewJoin(
            view=view,
            features=tuple(view.feature_names),
            mode="observed",
            history=self._records.history,
            version=version,
            name=_LAKE,
            on={name: name for name, _ in self._keys},
            with_times=True,
        )
        joined = join(self._lake, TableRows(spine), [of_view], resources).to_arrow()
        return joined.take(pc.sort_indices(joined[_ROW]))

    def replayed(self, *, statistics: bool) -> ViewReplay:
        n = self._logged.num_rows
        outcomes = np.array([str(outcome) for outcome in self._outcomes])
        comparable = np.isin(outcomes, [str(outcome) for outcome in _COMPARED])
        odd = np.isin(outcomes, [str(outcome) for outcome in _AS_THEY_ARE])
        differing, has, wrong_type, served = self._by_feature(statistics=statistics)
        elsewhere = differ(self._logged["event_time"], self._joined[f"{_LAKE}__event_time"]) & (outcomes != str(Outcome.EXPIRED))
        any_differs = np.logical_or.reduce([*differing.values(), elsewhere])
        suspects = np.flatnonzero(comparable & (any_differs | wrong_type))
        findings, benign, altered, examples = self._judge(suspects, differing, wrong_type)
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
            judged=min(len(suspects), JUDGED),
            attempts=self._by_attempt(altered),
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
    ) -> tuple[Counter[Finding], Mask, Mask, list[Example]]:
        """What the rows that differ are, which of them are right all the same, which hold what the lake does not have, and some that
        are not right."""
        benign, altered = np.zeros((2, self._logged.num_rows), np.bool_)
        if not len(suspects):
            return Counter(), benign, altered, []
        chosen = suspects if len(suspects) <= JUDGED else np.random.default_rng(len(suspects)).choice(suspects, JUDGED, replace=False)
        rows = rows_of(self._lake, self._records.entry, self._keys, {self._of_key[self._key_of[place]] for place in chosen})
        named: Counter[Finding] = Counter()
        examples: list[Example] = []
        for place in chosen.tolist():
            finding = Finding.TYPE if wrong_type[place] else self._finding(place, rows)
            named[finding] += 1
            benign[place], altered[place] = finding in SAME, finding in (Finding.VALUE, Finding.TYPE)
            if finding not in SAME and len(examples) < _EXAMPLES:
                examples.append(self._example(place, finding, differing))
        if len(chosen) < len(suspects):
            named = Counter({finding: round(count * len(suspects) / len(chosen)) for finding, count in named.items()})
            others = np.setdiff1d(suspects, chosen)
            share = sum(named[finding] for finding in SAME) / max(1, sum(named.values()))
            benign[others[: round(share * len(others))]] = True
        return named, benign, altered, examples

    def _by_attempt(self, altered: Mask) -> dict[int, tuple[int, int]]:
        found = self._logged.select(["attempt"]).append_column("altered", pa.array(altered)).drop_null()
        counts = found.group_by("attempt").aggregate([("altered", "count"), ("altered", "sum")])
        return {row["attempt"]: (row["altered_count"], row["altered_sum"]) for row in counts.to_pylist()}

    def _finding(self, place: int, rows: Mapping[Any, Sequence[Any]]) -> Finding:
        of_key = rows.get(self._of_key[self._key_of[place]], ())
        judge = Judge(self._records, self._logged["at"][place].as_py())
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
