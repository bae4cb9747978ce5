"""One attempt at a range of partitions: compute, audit, commit what changed, log.

    watermark ──► compute ──► stage what changed ──► audit ──► passed: commit it ──────► attempt log
                                                       └─────► refused: quarantine ────► attempt log

Nothing a reader sees changes before the audit has passed. Killed anywhere, it is run again: before the
Delta commit nothing has happened; after it, the next attempt finds the commit by its metadata and logs it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import msgspec
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, Clock, from_micros, to_micros
from penstock.contract.fingerprint import contract_fingerprint, transformation_fingerprint
from penstock.contract.view import FeatureView
from penstock.errors import SourceError
from penstock.offline.commit import commit_files, create_feature_table, last_created, read_features
from penstock.offline.compute import compute_rows, judged_day, range_of, require_utc_session, schema_problems, up_to
from penstock.offline.cuts import GATE as CUTS_GATE
from penstock.offline.cuts import cuts, needs_cuts, problem_at
from penstock.offline.kept import kept
from penstock.offline.lake import Lake, feature_table, quarantine_table
from penstock.offline.logs import AttemptEntry, last_attempts, log_attempts, logged_attempts, newest, passed
from penstock.offline.profiles import Profile, log_profiles
from penstock.offline.sources import how_far, require_unchanged, versions
from penstock.offline.stage import Look, Seen, Staged, looked_at, remove_uncommitted, stage
from penstock.offline.statistics import ColumnStatistics
from penstock.offline.task_errors import as_themselves
from penstock.offline.tile_table import refresh_tiles
from penstock.offline.watermark import DAY, closed_days, complete_until, days_between, require_time_goes_on, start_of


@dataclass(frozen=True)
class Verdict:
    """What the audit says of one partition.

    Args:
        rows: how many it has.
        gates, reasons: gate → whether it passed, and why not, a sentence each.
        warnings: what is not as the contract has it, and refuses nothing, a sentence each.
        statistics: feature → what its values are like; None: not looked at.
        remarks: what is otherwise than it was, and refuses nothing, a sentence each; None: there was nothing to compare with.
    """

    rows: int
    gates: Mapping[str, bool]
    reasons: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())
    statistics: Mapping[str, ColumnStatistics] | None = None
    remarks: Sequence[str] | None = None

    @property
    def passed(self) -> bool:
        return all(self.gates.values())


@dataclass(frozen=True)
class Audit:
    """What is looked at of computed rows, and what is said of what was seen.

    Args:
        look: view and, per partition, how far it is complete → what is seen of a part of one day's rows.
        judge: view, what was seen of each day, and how far each partition is complete → a verdict for every partition.
    """

    look: Callable[[FeatureView, Mapping[date, datetime]], Look]
    judge: Callable[[FeatureView, Seen, Mapping[date, datetime]], Mapping[date, Verdict]]


def audited(audit: Audit, view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime]) -> Mapping[date, Verdict]:
    """A verdict on every partition of some rows that are written nowhere."""
    return audit.judge(view, looked_at(view, rows, complete_until, audit.look(view, complete_until)), complete_until)


def run_attempt(
    spark: SparkSession, lake: Lake, view: FeatureView, partitions: Sequence[date], *, clock: Clock, run_id: str, audit: Audit
) -> list[AttemptEntry]:
    """Compute, audit and commit some days of a view as one attempt.

    Args:
        spark, lake, view: with what, where and what.
        partitions: contiguous days, UTC; none: nothing is done.
        clock: tells now; rows later than it are not computed.
        run_id: recorded.
        audit: says which partitions may be committed.

    Returns:
        One entry per partition, as logged; a refused one has `state == "quarantined"`.

    Raises:
        SourceError: a source has no table, or a file that a task needed cannot be read.
        CommitError: another writer interfered, a row lies in the future, or the Clock has gone back.
        ConfigError: the session's time zone is not UTC; days would be cut elsewhere.
    """
    if not partitions:
        return []
    require_utc_session(spark)
    create_feature_table(spark, lake, view)
    known = finish_interrupted(lake, view)
    now = clock.now()
    require_time_goes_on(feature_table(view), known, now)
    known_of = how_far(lake, view, now)  # before the versions: what is read is at least as far as what it is taken for
    inputs = versions(lake, view)
    limits = {day: complete_until(view, day, known_of, now) for day in sorted(partitions)}
    this = _This(
        view,
        code=transformation_fingerprint(view),
        rules=contract_fingerprint(view),
        created=max([now, *(t + MICROSECOND for t in _times_taken(lake, view, known))]),
        run_id=run_id,
        inputs=inputs,
        found_version=lake.version(feature_table(view)) or 0,
    )
    computed = _computed(spark, lake, this, limits)
    if isinstance(computed, Verdict):
        entries = [this.entry(day, limit, computed) for day, limit in limits.items()]
    else:
        mine = up_to(view, computed, limits, now)
        with kept(mine) if needs_cuts(view) else nullcontext(mine) as rows:
            staged = _staged(spark, lake, this, rows, limits, audit)
            try:
                with as_themselves():
                    verdicts = _with_cuts(spark, lake, this, rows, limits, audit.judge(view, staged.seen, limits))
                require_unchanged(lake, view, inputs)
                entries = _commit_what_passes(spark, lake, this, rows, limits, verdicts, staged)
            finally:
                remove_uncommitted(lake, view, staged)
        log_profiles(lake, [this.profile(day, verdict) for day, verdict in verdicts.items() if verdict.statistics is not None])
    log_attempts(lake, entries)
    return entries


@dataclass(frozen=True)
class _This:
    """What all entries of one attempt share."""

    view: FeatureView
    code: str
    rules: str
    created: datetime
    run_id: str
    inputs: Mapping[str, int]
    found_version: int

    def entry(self, day: date, limit: datetime, verdict: Verdict) -> AttemptEntry:
        return AttemptEntry(
            table=feature_table(self.view),
            partition=day,
            attempt=to_micros(self.created),
            state="passed" if verdict.passed else "quarantined",
            complete_until=limit,
            delta_version=self.found_version,
            rows=verdict.rows,
            changed=0,
            retracted=0,
            run_id=self.run_id,
            code=self.code,
            inputs=dict(self.inputs),
            gates=dict(verdict.gates),
            reasons=list(verdict.reasons),
            warnings=list(verdict.warnings),
            rules=self.rules,
        )

    def profile(self, day: date, verdict: Verdict) -> Profile:
        return Profile(
            view=self.view.name,
            version=self.view.version,
            partition=day,
            attempt=to_micros(self.created),
            statistics=dict(verdict.statistics or {}),
            remarks=None if verdict.remarks is None else list(verdict.remarks),
        )


def _computed(spark: SparkSession, lake: Lake, this: _This, limits: Mapping[date, datetime]) -> DataFrame | Verdict:
    """The view's rows; or, where columns are not as declared, why no partition can be committed."""
    try:
        if this.view.tiles is not None:
            refresh_tiles(spark, lake, this.view, this.inputs, *range_of(limits))
        rows = compute_rows(spark, lake, this.view, this.inputs, *range_of(limits))
    except SourceError as error:
        return Verdict(0, {"sources_as_declared": False}, [f"sources_as_declared: {error.message}"])
    problems = schema_problems(this.view, rows)
    return Verdict(0, {"schema": False}, [f"schema: {problem}" for problem in problems]) if problems else rows


def _with_cuts(
    spark: SparkSession, lake: Lake, this: _This, rows: DataFrame, limits: Mapping[date, datetime], verdicts: Mapping[date, Verdict]
) -> Mapping[date, Verdict]:
    """The verdicts, with that on the function itself: one that breaks the rule of time on one day is trusted on none."""
    if not needs_cuts(this.view):
        return verdicts
    problems = [problem for cut in cuts(this.view, limits) if (problem := problem_at(spark, lake, this.view, this.inputs, rows, cut))]
    return {
        day: replace(verdict, gates={**verdict.gates, CUTS_GATE: not problems}, reasons=[*verdict.reasons, *problems])
        for day, verdict in verdicts.items()
    }


def _staged(spark: SparkSession, lake: Lake, this: _This, rows: DataFrame, limits: Mapping[date, datetime], audit: Audit) -> Staged:
    current = read_features(spark, lake, this.view, this.found_version, (min(limits), max(limits)))
    location = lake.location(feature_table(this.view))
    with as_themselves():
        return stage(this.view, rows, current, limits, location=location, created=this.created, look=audit.look(this.view, limits))


def _commit_what_passes(
    spark: SparkSession,
    lake: Lake,
    this: _This,
    rows: DataFrame,
    limits: Mapping[date, datetime],
    verdicts: Mapping[date, Verdict],
    staged: Staged,
) -> list[AttemptEntry]:
    good = [day for day in limits if verdicts[day].passed]
    refused = {day: verdicts[day] for day in limits if not verdicts[day].passed}
    if refused:
        _quarantine(spark, lake, this, rows, limits, refused)
    entries = {day: this.entry(day, limit, verdicts[day]) for day, limit in limits.items()}
    # All that is needed to log the attempt, should this run end right after the commit.
    note = {"run_id": this.run_id, "entries": msgspec.to_builtins([entries[day] for day in good])}
    files = {day: staged.files[day] for day in good if day in staged.files}
    version = commit_files(lake, this.view, files, read=this.found_version, created=this.created, metadata=note)
    for day in good:
        file = files.get(day)
        changed, retracted = (0, 0) if file is None else (file.rows, file.retracted)
        entries[day] = msgspec.structs.replace(entries[day], delta_version=version, changed=changed, retracted=retracted)
    return list(entries.values())


def outdated(lake: Lake, view: FeatureView, days: Sequence[date], *, clock: Clock) -> list[date]:
    """Those of some days that computing now may bring further: never computed, computed by other code, refused when it was tried last,
    or with inputs complete further than when they were computed."""
    entries, code = last_attempts(lake, feature_table(view)), transformation_fingerprint(view)
    tried, done = newest(entries), newest(entries, passed)
    others = {day for day in days if day not in done or done[day].code != code or not passed(tried[day])}
    return sorted(others | set(_further(lake, view, {day: done[day] for day in days if day not in others}, clock.now())))


def behind(lake: Lake, view: FeatureView, *, clock: Clock) -> list[date]:
    """The days of a view, of those that were computed and those begun since, that computing now would bring further. A day that
    was refused waits for other data."""
    tried, now = newest(last_attempts(lake, feature_table(view))), clock.now()
    if not tried:
        return []
    begun = dict.fromkeys(days_between(max(tried) + DAY, now.date()))
    return sorted(_further(lake, view, {**begun, **{day: entry for day, entry in tried.items() if passed(entry)}}, now))


def _further(lake: Lake, view: FeatureView, days: Mapping[date, AttemptEntry | None], now: datetime) -> list[date]:
    """Those of some days, each with its attempt, of which more can be computed now than there is."""
    reached = {day: start_of(day) - MICROSECOND if entry is None else entry.complete_until for day, entry in days.items()}
    unfinished = sorted(reached.keys() - closed_days(reached))
    if not unfinished:
        return []
    known_of = how_far(lake, view, now)
    return [day for day in unfinished if complete_until(view, day, known_of, now) > reached[day]]


def finish_interrupted(lake: Lake, view: FeatureView) -> list[AttemptEntry]:
    """Log the attempts whose rows were committed but whose run ended before it could say so.

    Returns:
        The last attempts on each partition of the view's table, those included.
    """
    table = feature_table(view)
    known, logged = last_attempts(lake, table), logged_attempts(lake, table)
    missing: list[AttemptEntry] = []
    for commit in lake.commits(table):
        note = json.loads(commit.get("userMetadata", "{}"))
        if "attempt" not in note:
            continue
        if note["attempt"] in logged:
            break  # commits are serial: those before it were logged before it was made
        # The counts of a commit that was interrupted are not known to it; they are told as they are: unknown.
        missing += [
            msgspec.structs.replace(entry, delta_version=commit["version"], changed=-1, retracted=-1)
            for entry in msgspec.convert(note["entries"], list[AttemptEntry])
        ]
    if missing:
        log_attempts(lake, missing)
    return known + missing


def _times_taken(lake: Lake, view: FeatureView, known: Sequence[AttemptEntry]) -> list[datetime]:
    committed = last_created(lake, view)
    return [from_micros(e.attempt) for e in known] + ([committed] if committed is not None else [])


def _quarantine(
    spark: SparkSession, lake: Lake, this: _This, rows: DataFrame, all_days: Iterable[date], refused: Mapping[date, Verdict]
) -> None:
    """Keep the refused partitions' rows, with the reasons, where nobody reads features from.

    A killed attempt that is run again under the same number replaces what it left.
    """
    facts: list[tuple[date | None, list[str]]] = [(day, list(verdict.reasons)) for day, verdict in refused.items()]
    facts.append((None, ["the row has no event time"]))
    days = spark.createDataFrame(facts, "_day date, reasons array<string>")
    attempt = to_micros(this.created)
    (
        rows.withColumn("event_date", judged_day(all_days))
        .join(F.broadcast(days), F.col("event_date").eqNullSafe(F.col("_day")))
        .drop("_day")
        .withColumn("attempt", F.lit(attempt))
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"attempt = {attempt}")
        .partitionBy("event_date")
        .save(lake.location(quarantine_table(this.view)))
    )
