"""The feature log computed again: what was served beside what training gives for the same keys at the same times.

    log/served ──► keys and times as a spine ──► the point-in-time join, by the ledger ──► equal, feature by feature
                                                                             └──► differs ──► `cases` names it

The join is the one that makes training sets, in mode `observed`. Who may differ and be right (a value ahead of its ledger row, or out
of a cache for as long as the view allows) is told by the judge, and counted apart.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

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
from penstock.quality.cases import EXAMPLES, NEVER, Example, LoggedRows, Places, by_attempt, example, named
from penstock.quality.findings import Finding, Records
from penstock.quality.logged_values import Mask, differ, typed
from penstock.quality.served_log import SERVED, served_of
from penstock.registry.snapshot import view_entry
from penstock.serving.judgement import Outcome

_ROW = "__row"
_LAKE = "lake"
_COMPARED = {Outcome.FRESH, Outcome.LATE, Outcome.ABSENT, Outcome.EXPIRED, Outcome.INVALIDATED}
_AS_THEY_ARE = {Outcome.CORRUPT: Finding.VALUE, Outcome.FUTURE: Finding.VALUE, Outcome.UNKNOWN_SCHEMA: Finding.TYPE}


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
        mine = np.asarray(pc.equal(logged["generation"], generation))
        records = Records.of(lake, view_entry(view), generation)
        rows = _beside_the_lake(lake, view, version, records, logged.filter(pa.array(mine)), ttls[mine], resources)
        found.append(_replayed(view, generation, rows, statistics=statistics))
    return found


def _ttls(lake: Lake, view: FeatureView, served_under: pa.ChunkedArray) -> Places:
    """The ttl in microseconds that each row was served by: that of the definitions it was served under, where the lake has these."""
    known = {one.fingerprint: one.snapshot for one in snapshots(lake)}
    under = served_under.combine_chunks().dictionary_encode()
    mine = _micros(view_entry(view).ttl_us)
    of_each = []
    for fingerprint in under.dictionary.to_pylist():
        views = known[fingerprint].views if fingerprint in known else []
        of_each.append(next((_micros(one.ttl_us) for one in views if (one.name, one.version) == (view.name, view.version)), mine))
    places: Places = under.indices.to_numpy()
    return np.array(of_each, np.int64)[places]


def _micros(ttl_us: int | None) -> int:
    return NEVER if ttl_us is None else ttl_us


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
    ]
    where = served_of(view, since, until) & pc.field("key").is_valid() & (pc.field("entity") == view.entity.name)
    if service:
        where = where & (pc.field("service") == service)
    try:
        return rows_where(lake.dataset(SERVED), where, names)
    except TableNotFoundError:
        return pa.table({name: [] for name in names})


def _beside_the_lake(
    lake: Lake, view: FeatureView, version: int, records: Records, logged: pa.Table, ttls: Places, resources: Resources
) -> LoggedRows:
    join_keys = list(view.entity.join_keys.items())
    encoded = logged["key"].combine_chunks().dictionary_encode()
    keys = [_decoded(join_keys, key) for key in encoded.dictionary.to_pylist()]
    columns = {
        name: pa.array([key[place] for key in keys], arrow_type(dtype)).take(encoded.indices)
        for place, (name, dtype) in enumerate(join_keys)
    }
    longest = int(ttls.max())
    of_view = ViewJoin(
        view=view,
        features=tuple(view.feature_names),
        mode="observed",
        ttl=None if longest == NEVER else timedelta(microseconds=longest),
        history=records.history,
        version=version,
        name=_LAKE,
        on={name: name for name, _ in join_keys},
        with_times=True,
    )
    spine = TableRows(pa.table({**columns, "event_time": logged["at"], _ROW: np.arange(logged.num_rows)}))
    joined = join(lake, spine, [of_view], resources).to_arrow()
    given = joined.take(pc.sort_indices(joined[_ROW])).select(
        [f"{_LAKE}__{name}" for name in ("event_time", "known_at", *view.feature_names)]
    )
    given = _without_expired(given, logged["at"], ttls)
    return LoggedRows(
        lake=lake,
        records=records,
        logged=logged,
        event_time=given.column(0),
        known_at=given.column(1),
        values=given.select(given.column_names[2:]).rename_columns(list(view.feature_names)),
        join_keys=join_keys,
        keys=keys,
        key_of=encoded.indices.to_numpy().astype(np.int64),
        ttls=ttls,
        outcomes=[Outcome[name.upper()] for name in logged["outcome"].to_pylist()],
    )


def _without_expired(given: pa.Table, at: pa.ChunkedArray, ttls: Places) -> pa.Table:
    """Without what was too old already by the ttl a row was served by, where that was shorter than others'."""
    if ttls.min() == ttls.max():
        return given
    age = pc.subtract(at.cast(pa.int64()), given.column(0).cast(pa.int64()))
    is_usable = pc.less_equal(age, pa.array(ttls)).combine_chunks()
    columns = [pc.if_else(is_usable, column, pa.scalar(None, column.type)) for column in given.columns]
    return pa.table(columns, names=given.column_names)


def _replayed(view: FeatureView, generation: int, rows: LoggedRows, *, statistics: bool) -> ViewReplay:
    outcomes = np.array([str(outcome) for outcome in rows.outcomes])
    comparable = np.isin(outcomes, [str(outcome) for outcome in _COMPARED])
    odd = np.isin(outcomes, [str(outcome) for outcome in _AS_THEY_ARE])
    differing, has, wrong_type, served = _by_feature(view, rows, statistics=statistics)
    elsewhere = differ(rows.logged["event_time"], rows.event_time) & (outcomes != str(Outcome.EXPIRED))
    any_differs = np.logical_or.reduce([*differing.values(), elsewhere])
    found = named(rows, np.flatnonzero(comparable & (any_differs | wrong_type)), differing, wrong_type)
    findings, examples = Counter(found.findings), list(found.examples)
    for outcome, finding in _AS_THEY_ARE.items():
        places = np.flatnonzero(outcomes == str(outcome))
        findings[finding] += len(places)
        examples += [example(rows, place, finding, differing) for place in places[:EXAMPLES].tolist()]
    bad = (comparable & any_differs & ~found.benign) | odd
    compared = int((comparable | odd).sum())
    findings[Finding.EQUAL] += compared - findings.total()
    return ViewReplay(
        view=view.ref,
        generation=generation,
        rows=compared,
        changes=_changes(rows, comparable | odd),
        unserved=len(outcomes) - compared,
        late=int((outcomes == str(Outcome.LATE)).sum()),
        findings={finding: count for finding, count in findings.items() if count},
        differing={name: int(((mask & bad) | (odd & has[name])).sum()) for name, mask in differing.items()},
        compared={name: int((mask & (comparable | odd)).sum()) for name, mask in has.items()},
        unjudged=int(found.unjudged.sum()),
        attempts=by_attempt(rows, found),
        examples=tuple(examples[:EXAMPLES]),
        served=served,
    )


def _by_feature(
    view: FeatureView, rows: LoggedRows, *, statistics: bool
) -> tuple[dict[str, Mask], dict[str, Mask], Mask, dict[str, ColumnStatistics]]:
    """Feature → which rows were served another value than the lake's, feature → which rows have it, which rows hold a value that is
    not of its type, and feature → what its values are like."""
    n, dtypes = rows.logged.num_rows, {feature.name: feature.dtype for feature in view.features}
    differing = {name: np.zeros(n, np.bool_) for name in dtypes}
    has = {name: np.zeros(n, np.bool_) for name in dtypes}
    wrong_type = np.zeros(n, np.bool_)
    served: list[dict[str, ColumnStatistics]] = []
    for names, places in _by_selection(rows.logged):
        texts = rows.logged["values"].take(places).combine_chunks().dictionary_encode()
        read, text_of = [msgspec.json.decode(text) for text in texts.dictionary.to_pylist()], texts.indices.to_numpy()
        for place, name in enumerate(names):
            if name not in dtypes:
                continue
            values, is_wrong = typed([one[place] for one in read], dtypes[name])
            where = places.to_numpy()
            has[name][where] = True
            wrong_type[where] |= is_wrong[text_of]
            values = values.take(texts.indices)
            differing[name][where] = differ(values, rows.values[name].take(places)) | is_wrong[text_of]
            if statistics:
                served.append(statistics_of(pa.table({name: values}), [name], distinct=False))
    return differing, has, wrong_type, merged(served)


def _by_selection(logged: pa.Table) -> Iterator[tuple[list[str], pa.Array]]:
    """Which features were asked for, and in which rows: services take some of a view's each, under a name of their own."""
    asked = pc.binary_join(logged["features"].combine_chunks(), "\0")
    asked = pc.binary_join_element_wise(logged["name"].combine_chunks(), asked, "\0").dictionary_encode()
    for number, selection in enumerate(asked.dictionary.to_pylist()):
        name, *features = selection.split("\0")
        yield [feature.removeprefix(f"{name}__") for feature in features], pa.array(np.flatnonzero(asked.indices.to_numpy() == number))


def _changes(rows: LoggedRows, among: Mask) -> int:
    """Distinct rows of the table, or keys without one: rows of the log that are of the same say the same."""
    columns = {"key": rows.key_of, "event": rows.event_time, "known": rows.known_at}
    return int(pa.table(columns).filter(pa.array(among)).group_by(list(columns)).aggregate([]).num_rows)


def _decoded(join_keys: Sequence[tuple[str, str]], key: bytes) -> tuple[Any, ...]:
    try:
        return decode_key(join_keys, key)
    except InvalidEntity:
        return (None,) * len(join_keys)  # of an entity as it was once: the lake has no such key
