"""A training set is made again from its manifest: equal, or it is said what differs. Without Spark: the files are real."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.clock import FixedClock, to_micros
from penstock.contract import Feature, FeatureService, FeatureView, hours
from penstock.errors import SourceError, SpineError, TrainingSetError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.maintenance import compact, vacuum
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import table_rows
from penstock.registry.project import Project
from penstock.training_set.manifest import Manifest
from penstock.training_set.pins import pinned
from penstock.training_set.reference import newest_references
from penstock.training_set.sets import TrainingSets
from tests.point_in_time.tables import CREATED, DAY, HOUR, a_view, publish_at, write_rows

UTC_MICROS = pa.timestamp("us", tz="UTC")
SPEND = a_view()
CITY = a_view("city", {"city": "string"}, features=[Feature("name", "string")], ttl=None)
SERVICE = FeatureService("basket", views=[SPEND, CITY], owner="tests")
NOW = DAY + 300 * HOUR


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


@dataclass
class Sets:
    lake: Lake
    clock: FixedClock
    views: tuple[FeatureView, ...] = (SPEND, CITY)

    @property
    def sets(self) -> TrainingSets:
        project = Project("shop", self.views, (FeatureService("basket", views=list(self.views), owner="tests"),))
        return TrainingSets(self.lake, project, Resources(no_spark, 2, 10**8), self.clock, table_rows, lambda: "registry")

    def build(self, spine: pa.Table | None = None, **options: Any) -> Manifest:
        return self.sets.build("baskets", a_spine() if spine is None else spine, "basket", **{"mode": "assumed", **options})

    def files(self, view: FeatureView) -> list[Path]:
        return sorted(Path(self.lake.location(feature_table(view))).glob("event_date=*/*.parquet"))


def a_spine(n: int = 60) -> pa.Table:
    rows = range(n)
    return pa.table(
        {
            "user": pa.array([row % 7 for row in rows], pa.int64()),
            "city": [None if row % 11 == 0 else f"c{row % 3}" for row in rows],
            "late": [row % 4 == 0 for row in rows],
            "landed_at": pa.array([None if row % 10 == 9 else DAY + row * HOUR for row in rows], UTC_MICROS),
            "event_time": pa.array([DAY + row * HOUR for row in rows], UTC_MICROS),
        }
    )


@pytest.fixture
def shop(tmp_path: Path) -> Sets:
    lake = Lake(str(tmp_path))
    spent = [{"user": n % 7, "at": DAY + n * HOUR, "amount": float(n)} for n in range(48)]
    write_rows(lake, SPEND, spent, commits=3)
    write_rows(lake, CITY, [{"city": f"c{n}", "at": DAY, "name": f"city {n}"} for n in range(3)])
    return Sets(lake, FixedClock(NOW))


def test_made_again_it_is_equal(shop: Sets) -> None:
    made = shop.build(split="hash:0.3:user")
    again = shop.sets.rebuild("baskets")
    assert (again.rows, again.content) == (made.rows, made.content) == (60, made.content)
    loaded = shop.sets.load("baskets", made.id)
    assert loaded.features == ["spend__amount", "city__name"]
    assert loaded.to_arrow()["spend__amount"].null_count < 30


def test_equal_after_later_writes_corrections_publications_folding_and_vacuum(shop: Sets) -> None:
    publish_at(shop.lake, SPEND, DAY.date(), CREATED, CREATED + HOUR)
    made = [shop.build(mode=mode) for mode in ("event", "assumed", "observed", "restated")]
    before = shop.files(SPEND)
    later = CREATED + 50 * HOUR
    write_rows(shop.lake, SPEND, [{"user": n % 7, "at": DAY + n * HOUR, "amount": -1.0, "created": later} for n in range(48)])
    write_rows(shop.lake, SPEND, [{"user": 1, "at": DAY + 5 * HOUR, "created": later + HOUR, "retracted": True}])
    publish_at(shop.lake, SPEND, DAY.date(), later, later + HOUR)
    folded = compact(shop.lake, SPEND, before=(DAY + 48 * HOUR).date())
    assert len(folded.days) == 2
    assert len(shop.lake.open(feature_table(SPEND)).file_uris()) == 2
    # within retention nothing is old enough to go; without it, only what no manifest pins
    assert vacuum(shop.lake, feature_table(SPEND), pinned=(), dry_run=False) == []
    table = shop.lake.open(feature_table(SPEND))
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, keep_versions=sorted(pinned(shop.lake)[feature_table(SPEND)]))
    assert set(before) <= set(shop.files(SPEND))
    assert len(shop.files(SPEND)) == len(before) + 2  # the corrections' own files are gone
    for manifest in made:
        assert shop.sets.rebuild("baskets", manifest.id).content == manifest.content
    assert shop.build(mode="restated").content != made[3].content


def test_folding_changes_no_row_and_keeps_old_versions_readable(shop: Sets) -> None:
    table = feature_table(SPEND)
    was = shop.lake.version(table)
    before = shop.lake.dataset(table).to_table().sort_by([("user", "ascending"), ("event_time", "ascending")])
    assert compact(shop.lake, SPEND, before=(DAY + 24 * HOUR).date()).days == (DAY.date(),)  # the open day is left alone
    assert compact(shop.lake, SPEND, before=(DAY + 24 * HOUR).date()).days == ()
    for version in (was, None):
        rows = shop.lake.dataset(table, version).to_table()
        assert rows.sort_by([("user", "ascending"), ("event_time", "ascending")]).equals(before)
    folded = pq.read_table(next(path for path in shop.files(SPEND) if len(pq.read_table(path)) == 24), partitioning=None)
    assert folded["user"].to_pylist() == sorted(folded["user"].to_pylist())


def altered(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    kind = pq.read_schema(path)
    pq.write_table(change(pq.read_table(path, partitioning=None)).cast(kind), path)


def set_value(rows: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    values = rows[name].to_pylist()
    values[row] = value
    return rows.set_column(rows.schema.names.index(name), name, pa.array(values, rows.schema.field(name).type))


def test_a_value_altered_in_an_old_file_is_named_by_table_and_partition(shop: Sets) -> None:
    made = shop.build()
    for path in shop.files(SPEND):
        whole = path.read_bytes()
        altered(path, lambda rows: set_value(rows, "amount", 0, 1e6))
        day = path.parent.name.removeprefix("event_date=")
        with pytest.raises(TrainingSetError, match=rf"features/spend/v1, partition {day}: its files at version 2 were altered"):
            shop.sets.rebuild("baskets")
        states = [one for one in shop.sets.verify("baskets", made.id, deep=True) if one.state == "altered"]
        assert [one.detail for one in states] == [f"features/spend/v1, partition {day}: its files at version 2 were altered"]
        path.write_bytes(whole)
    assert shop.sets.rebuild("baskets").content == made.content


def test_an_altered_training_set_is_named(shop: Sets) -> None:
    made = shop.build()
    for name, value, what in (("spend__amount", 1e6, "features"), ("late", None, "the rows of its spine")):
        path = next(path for path in Path(shop.lake.location(made.table)).glob("*.parquet"))
        whole = path.read_bytes()
        altered(path, lambda rows, name=name, value=value: set_value(rows, name, 0, value))  # type: ignore[misc]
        with pytest.raises(TrainingSetError, match=rf"{what} in {made.table} are not those that were built"):
            shop.sets.rebuild("baskets")
        path.write_bytes(whole)


def test_files_and_versions_that_are_gone_are_named(shop: Sets) -> None:
    shop.build()
    path = shop.files(SPEND)[0]
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(SourceError, match=rf"features/spend/v1, partition 2026-03-02: the file .*{path.name} is gone"):
        shop.sets.rebuild("baskets")
    path.write_bytes(whole)
    log = Path(shop.lake.location(feature_table(CITY))) / "_delta_log"
    for entry in log.iterdir():
        entry.unlink()
    with pytest.raises(SourceError, match="features/city/v1"):
        shop.sets.rebuild("baskets")
    assert {one.state for one in shop.sets.verify("baskets")} == {"gone", "good"}


def test_changed_definitions_are_named(shop: Sets) -> None:
    made = shop.build()
    changed = Sets(shop.lake, shop.clock, (a_view(ttl=hours(3)), CITY))
    with pytest.raises(TrainingSetError, match=f"was built under contract {made.contract}; by today's definitions it is"):
        changed.sets.rebuild("baskets")
    gone = Sets(shop.lake, shop.clock, (CITY,))
    with pytest.raises(TrainingSetError, match="was built from spend@1, which this project no longer defines"):
        gone.sets.rebuild("baskets")


def test_verify_tells_until_when(shop: Sets) -> None:
    shop.lake.open(feature_table(SPEND)).alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 400 days"})
    shop.build()
    table = feature_table(SPEND)
    assert {one.state for one in shop.sets.verify("baskets")} == {"good"}
    write_rows(shop.lake, SPEND, [{"user": 1, "at": DAY, "amount": 3.0, "created": CREATED + HOUR}])
    committed = datetime.fromtimestamp(next(iter(shop.lake.commits(table)))["timestamp"] / 1000, tz=DAY.tzinfo)
    for age, state in ((timedelta(days=369), "good"), (timedelta(days=371), "expires soon"), (timedelta(days=401), "gone")):
        shop.clock.at = committed + age
        (found,) = [one for one in shop.sets.verify("baskets") if one.what.startswith(table)]
        assert found.state == state, found


def test_a_damaged_manifest_is_named_and_keeps_all_pins(shop: Sets) -> None:
    made = shop.build()
    path = Path(shop.lake.location(f"{made.table}/manifest.json"))
    whole = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**whole, "rows": "many"}), json.dumps({**whole, "format": 1})):
        path.write_text(text)
        with pytest.raises(TrainingSetError, match=r"is not one|is of format 1, expected 2"):
            pinned(shop.lake)


def test_labels_not_known_by_the_cut_off_are_left_out_and_counted(shop: Sets) -> None:
    # of 60 rows every tenth has not landed; of the rest those of hours 0 to 29 had by hour 29: 30 - 3 = 27
    made = shop.build(labels=["late:landed_at"], cutoff=DAY + 29 * HOUR)
    assert (made.rows, made.spine_rows, made.excluded) == (27, 60, {"label late not known at the cut-off": 33})
    kept = shop.sets.load("baskets").to_arrow()
    assert max(kept["landed_at"].to_pylist()) == DAY + 28 * HOUR
    assert shop.sets.rebuild("baskets").rows == 27
    assert shop.build(labels=["late:landed_at"]).rows == 54  # by now


def test_conditions_leave_rows_out(shop: Sets) -> None:
    made = shop.build(where=[("spend__amount", ">=", 10.0), ("user", "in", [1, 2])])
    rows = shop.sets.load("baskets").to_arrow()
    assert made.rows == rows.num_rows > 0
    assert set(rows["user"].to_pylist()) == {1, 2}
    assert made.excluded == {"filtered": 60 - made.rows}
    with pytest.raises(SpineError, match="no row of the spine is left"):
        shop.build(where=[("user", ">", 100)])
    assert [one.id for one in shop.sets.list("baskets")] == [made.id]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["late"]}, "label 'late': expected '<column>:<column that says when it was known>'"),
        ({"labels": ["late:landed"]}, "label 'late': the spine has no column 'landed'"),
        ({"labels": ["late:user"]}, "label 'late': 'user' is int64, expected timestamp"),
        ({"where": [("users", ">", 1)]}, r"filter \('users', '>', 1\): expected \(column, operator, value\)"),
        ({"where": [("user", "~", 1)]}, r"filter \('user', '~', 1\):"),
        ({"where": [("user", ">", "x")]}, r"filter \('user', '>', 'x'\):"),
        ({"split": "stratified:0.2:nobody"}, "split by 'nobody': not in the spine"),
    ],
)
def test_what_cannot_be_built_is_refused(shop: Sets, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpineError, match=message):
        shop.build(**options)
    assert shop.sets.list() == []


def test_a_stratified_split_keeps_the_share_of_each_value(shop: Sets) -> None:
    rare = pa.array([n % 50 == 0 for n in range(1_000)])  # 20 of 1,000
    spine = pa.table(
        {
            "user": pa.array(range(1_000), pa.int64()),
            "city": ["c1"] * 1_000,
            "rare": rare,
            "event_time": pa.array([DAY] * 1_000, UTC_MICROS),
        }
    )
    shop.build(spine, split="stratified:0.25:rare", seed=1)
    rows = shop.sets.load("baskets").to_arrow().to_pylist()
    tested = {value: sum(row["split"] == "test" for row in rows if row["rare"] is value) for value in (True, False)}
    assert tested == {True: 5, False: 245}
    other = shop.build(spine, split="stratified:0.25:rare", seed=2)
    moved = shop.sets.load("baskets", other.id).to_arrow().to_pylist()
    assert {row["user"] for row in moved if row["split"] == "test"} != {row["user"] for row in rows if row["split"] == "test"}


def test_rows_come_in_batches_in_an_order_of_their_own(shop: Sets) -> None:
    shop.build(split="hash:0.3:user")
    loaded = shop.sets.load("baskets")

    def times(**options: Any) -> list[Any]:
        return [time for batch in loaded.batches(8, **options) for time in batch.column("event_time").to_pylist()]

    everything = times()
    assert sorted(everything) == [DAY + n * HOUR for n in range(60)]
    shuffled = times(shuffle_seed=1)
    assert sorted(shuffled) == sorted(everything) != shuffled
    assert times(shuffle_seed=1) == shuffled != times(shuffle_seed=2)
    assert sorted(times(part="train") + times(part="test")) == sorted(everything)
    sizes = [batch.num_rows for batch in loaded.batches(8, shuffle_seed=3, columns=["spend__amount"])]
    assert (sizes[:-1], sum(sizes)) == ([8] * 7, 60)


def test_statistics_are_of_all_rows(shop: Sets) -> None:
    shop.build()
    loaded = shop.sets.load("baskets")
    rows, found = loaded.to_arrow(), loaded.statistics()
    amounts = [value for value in rows["spend__amount"].to_pylist() if value is not None]
    about = found["spend__amount"]
    assert (about.rows, about.nulls, about.finite) == (60, 60 - len(amounts), len(amounts))
    assert about.mean == pytest.approx(sum(amounts) / len(amounts))
    assert (about.low, about.high, about.distinct_values) == (min(amounts), max(amounts), len(set(amounts)))
    assert found["city__name"].distinct_values == 3
    references = newest_references(shop.lake, [SPEND, a_view("never_trained_on")])
    assert list(references) == [SPEND]
    (name, statistics) = references[SPEND]
    assert name == f"baskets of {NOW:%Y-%m-%d}"
    assert statistics == {"amount": about}


def test_the_manifest_says_what_mode_event_would_have_given(tmp_path: Path) -> None:
    late = a_view(delay=2 * HOUR)
    lake = Lake(str(tmp_path))
    write_rows(lake, late, [{"user": 1, "at": DAY + n * HOUR, "amount": float(n)} for n in range(4)])
    write_rows(lake, CITY, [{"city": "c1", "at": DAY, "name": "x"}])
    shop = Sets(lake, FixedClock(NOW), (late, CITY))
    spine = pa.table({"user": [1] * 8, "city": ["c1"] * 8, "event_time": pa.array([DAY + n * HOUR for n in range(8)], UTC_MICROS)})
    made = shop.build(spine)
    # event: 0 1 2 3 3 3 3 3, assumed: - - 0 1 2 3 3 3
    assert made.leakage == {"spend__amount": 5 / 8, "city__name": 0.0}
    assert shop.sets.load("baskets").to_arrow().schema.names == ["user", "city", "event_time", "spend__amount", "city__name"]
    assert shop.sets.rebuild("baskets").content == made.content
    assert shop.build(spine, mode="event").leakage == shop.build(spine, leakage=False, seed=1).leakage == {}


def test_the_manifest_names_everything(shop: Sets) -> None:
    made = shop.build(overrides={"spend": "event"}, seed=3)
    kept = json.loads(Path(shop.lake.location(f"{made.table}/manifest.json")).read_text())
    assert (kept["registry"], kept["seed"], kept["mode"]) == ("registry", 3, "assumed")
    assert {one["name"]: (one["mode"], one["delta_version"]) for one in kept["inputs"]} == {"spend": ("event", 2), "city": ("assumed", 0)}
    assert set(kept["inputs"][0]["partitions"]) == {"2026-03-02", "2026-03-03"}
    assert {"penstock", "pyarrow", "deltalake"} <= set(kept["packages"])
    assert kept["logs"] == {"attempts": 1, "publications": None, "marks": None}
    assert to_micros(made.created_at) == to_micros(NOW)
