"""What was served beside what training is given: an asset per view, judged by a job each hour and shown as checks.

The job brings the feature log to the lake, judges the windows of it that have settled, and says of each view what the newest of them came
to. What cannot be told for lack of rows is shown as a failed check of severity WARN that says so: Dagster knows no third outcome, and
nothing that was not looked at may look as if it had passed.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from penstock.contract.view import FeatureView
from penstock.orchestration.assets import online_key, owner_of
from penstock.quality.cases import Example
from penstock.quality.findings import SAME
from penstock.quality.skew import CHECKS, TRAINING, Level, SkewCheck
from penstock.quality.skew_log import HOUR, SkewEntry
from penstock.store import Store

SKEW_JOB = "skew"
LOG_KEY = dg.AssetKey(["feature_log"])
_POOL = "skew"  # beside the runs that compute: what is served now does not wait for a backfill
_SHOWN = 10
_REMEMBERED = timedelta(days=2)
_DESCRIBED = {
    "fidelity": "every served value is a row of the lake, to the byte",
    "staleness": "no served value was older than what was readable then",
    "presence": "nothing was found only where the lake has nothing, and the other way round",
    "values": "of each feature, what was served is what training is given for the same key and time",
    "age": "what was served was within the view's freshness SLA",
    "log": "what was to be logged is in the log",
    "training": "of a settled day: the values of each feature are like those in the newest training set that has them",
}


def skew_key(view: FeatureView) -> dg.AssetKey:
    """The asset of what was found of a view's served values."""
    return dg.AssetKey(["skew", view.name])


def skew_assets(store: Store) -> dg.AssetsDefinition:
    """The feature log in the lake, and of each view what the windows of it came to, with a check for each kind of skew."""
    views = store.project.views
    log = dg.AssetSpec(
        LOG_KEY,
        group_name="skew",
        kinds={"deltalake"},
        description="what gateways served, of a sample of entities",
        deps=[dg.AssetDep(online_key(view), partition_mapping=dg.AllPartitionMapping()) for view in views],
    )
    found = [
        dg.AssetSpec(
            skew_key(view),
            group_name="skew",
            owners=[owner_of(view.owner)],
            description=f"what was served of {view.ref} beside what training is given for the same keys and times",
            deps=[LOG_KEY],
        )
        for view in views
    ]
    checks = [dg.AssetCheckSpec(name, asset=skew_key(view), description=_DESCRIBED[name]) for view in views for name in CHECKS]

    @dg.multi_asset(name="judge_skew", specs=[log, *found], check_specs=checks, pool=_POOL)
    def judge(context: dg.AssetExecutionContext) -> Iterator[Any]:
        shipped = store.ship_feature_log()
        yield dg.MaterializeResult(
            LOG_KEY, metadata={"segments": shipped.segments, "rows": shipped.rows, "dropped_by_gateways": shipped.dropped}
        )
        failed = None
        try:
            entries = store.judge_due_skew()
            context.log.info(f"{len({(e.since, e.until) for e in entries})} window(s) judged")
        except ExceptionGroup as error:
            failed = error  # at the end: what was judged is shown all the same
        judged = store.skew(since=store.clock.now() - _REMEMBERED)
        for view in views:
            mine = [entry for entry in judged if entry.is_of(view)]
            newest = _newest(mine)
            yield dg.MaterializeResult(skew_key(view), metadata={} if newest is None else entry_metadata(newest))
            for name in CHECKS:
                yield check_result(view, name, _newest(mine, name))
        if failed is not None:
            raise failed

    return judge


def _newest(entries: Sequence[SkewEntry], check: str = "") -> SkewEntry | None:
    """The last window of an hour, else of a day, of those that have a check."""
    having = [entry for entry in entries if not check or any(one.name == check for one in entry.checks)]
    return max(having, key=lambda entry: (entry.until - entry.since == HOUR, entry.until), default=None)


def check_result(view: FeatureView, name: str, entry: SkewEntry | None) -> dg.AssetCheckResult:
    """One check of a view as its newest window came to it; without a window it has not passed."""
    found = None if entry is None else next((check for check in entry.checks if check.name == name), None)
    if entry is None or found is None:
        nothing = "no settled day was compared with a training set" if name == TRAINING else "no window of the feature log was judged"
        found = SkewCheck(name, Level.INSUFFICIENT_DATA, 0, 0, f"{view.ref}: {nothing}")
    metadata: dict[str, Any] = {"level": str(found.level), "said": found.said, "bad": found.bad, "rows": found.rows}
    if entry is not None:
        metadata |= {"since": dg.MetadataValue.timestamp(entry.since), "until": dg.MetadataValue.timestamp(entry.until)}
        if found.level is not Level.PASSED and entry.examples:
            metadata["examples"] = dg.MetadataValue.md(examples_table(entry.examples))
    return dg.AssetCheckResult(
        asset_key=skew_key(view),
        check_name=name,
        passed=found.level is Level.PASSED,
        severity=severity_of(found.level),
        metadata=metadata,
    )


def severity_of(level: Level) -> dg.AssetCheckSeverity:
    """How Dagster shows a level that has not passed."""
    return dg.AssetCheckSeverity.ERROR if level is Level.CRITICAL else dg.AssetCheckSeverity.WARN


def entry_metadata(entry: SkewEntry) -> dict[str, Any]:
    """What a window came to, as Dagster shows it."""
    differing = {name: bad for name, bad in entry.differing.items() if bad}
    metadata: dict[str, Any] = {
        "level": str(entry.level),
        "since": dg.MetadataValue.timestamp(entry.since),
        "until": dg.MetadataValue.timestamp(entry.until),
        "rows": entry.rows,
        "different_rows": entry.changes,
        "findings": ", ".join(f"{count:,} {name}" for name, count in entry.findings.items()) or "none",
        "differing_rows": sum(count for name, count in entry.findings.items() if name not in SAME),
    }
    if differing:
        lines = [f"| {name} | {bad:,} | {entry.compared[name]:,} | {bad / entry.compared[name]:.2%} |" for name, bad in differing.items()]
        metadata["differing"] = dg.MetadataValue.md("\n".join(["| feature | differing | of | share |", "|---|---|---|---|", *lines]))
    if entry.examples:
        metadata["examples"] = dg.MetadataValue.md(examples_table(entry.examples))
    return metadata


def examples_table(examples: Sequence[Example]) -> str:
    """Some rows that differ, as Markdown."""
    rows = [
        f"| {one.at:%Y-%m-%d %H:%M:%S} | {_words(one.key)} | {one.finding} | "
        + _words({name: f"{served!r}, lake: {expected!r}" for name, (served, expected) in one.values.items()})
        + " |"
        for one in examples[:_SHOWN]
    ]
    return "\n".join(["| at (UTC) | key | finding | served and lake's |", "|---|---|---|---|", *rows])


def _words(of: Any) -> str:
    return ", ".join(f"{name}: {value}" for name, value in of.items()).replace("|", "\\|")
