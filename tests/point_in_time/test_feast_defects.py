"""What Feast 0.67 gets wrong in a point-in-time join, a test each: run by both engines.

Its online defects are tested where they belong: a value past its ttl is not served (tests/serving/test_lookup.py), an older
batch does not overwrite a newer value and a late row is loaded (tests/publication/test_publish.py), what is online at every
moment is what training gets (tests/training_set/test_two_live_days.py).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock.contract import Feature, hours
from penstock.contract.service import select
from penstock.errors import SpineError
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import join
from penstock.point_in_time.spine import FrameRows, table_rows
from penstock.point_in_time.view_join import view_joins
from tests.point_in_time.conftest import Join
from tests.point_in_time.tables import CREATED, DAY, HOUR, a_view, write_rows
from tests.world import resources_of

UTC_MICROS = pa.timestamp("us", tz="UTC")
SPEND = a_view()


def spine(at: list[datetime | None], **columns: Any) -> pa.Table:
    return pa.table({**columns, "event_time": pa.array(at, UTC_MICROS)})


def test_keys_that_read_the_same_when_written_together_are_two(lake: Lake, joined: Join) -> None:
    # Feast: user 1 at merchant 23 gets the value of user 12 at merchant 3
    view = a_view("pair", {"user": "int64", "merchant": "int64"})
    write_rows(
        lake, view, [{"user": 1, "merchant": 23, "at": DAY, "amount": 123.0}, {"user": 12, "merchant": 3, "at": DAY, "amount": 1203.0}]
    )
    rows = joined(spine([DAY, DAY], user=[1, 12], merchant=[23, 3]), [view]).to_arrow().sort_by("user")
    assert rows["pair__amount"].to_pylist() == [123.0, 1203.0]


def test_rows_that_tie_give_one_row_and_always_the_same(lake: Lake, joined: Join) -> None:
    # Feast: 8 rows in, 9 out
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": amount} for amount in (1.0, 2.0, 3.0)])
    rows = joined(spine([DAY] * 4, user=[1] * 4), [SPEND]).to_arrow()
    assert rows["spend__amount"].to_pylist() == [3.0] * 4  # the greatest digest


def test_of_two_event_times_the_later_wins_although_the_earlier_was_created_later(lake: Lake, joined: Join) -> None:
    created_later = {"user": 1, "at": DAY, "amount": 1.0, "created": CREATED + HOUR}
    write_rows(lake, SPEND, [created_later, {"user": 1, "at": DAY + HOUR, "amount": 2.0}])
    assert joined(spine([DAY + 2 * HOUR], user=[1]), [SPEND]).to_arrow()["spend__amount"].to_pylist() == [2.0]


def test_rows_all_of_whose_candidates_expired_or_lie_ahead_are_kept(lake: Lake, joined: Join) -> None:
    # Feast's Dask store: 8 rows in, 6 out
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": 1.0} for n in range(4)])
    rows = joined(spine([DAY - HOUR, DAY, DAY + 25 * HOUR, DAY], user=[0, 1, 2, 9]), [SPEND]).to_arrow().sort_by("user")
    assert rows["spend__amount"].to_pylist() == [None, 1.0, None, None]


def test_equal_rows_of_a_spine_are_all_kept(lake: Lake, joined: Join) -> None:
    # Feast's Dask store: 2 rows in, 1 out
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    assert joined(spine([DAY, DAY], user=[1, 1]), [SPEND]).to_arrow().num_rows == 2


def test_features_and_labels_may_have_any_name(lake: Lake, joined: Join) -> None:
    # Feast's DuckDB store drops every column that ends in _y
    view = a_view("place", features=[Feature("lat_y", "float64"), Feature("row_number", "int64"), Feature("order", "string")])
    write_rows(lake, view, [{"user": 1, "at": DAY, "lat_y": 1.5, "row_number": 7, "order": "x"}])
    rows = joined(spine([DAY], user=[1], label_y=["l"], created_time=[3], _t=[4], _row=[5]), [view]).to_arrow()
    expected = {"label_y": ["l"], "created_time": [3], "_t": [4], "_row": [5]}
    expected |= {"place__lat_y": [1.5], "place__row_number": [7], "place__order": ["x"]}
    assert {name: rows[name].to_pylist() for name in expected} == expected


def test_times_come_back_aware_and_in_utc(lake: Lake, joined: Join) -> None:
    view = a_view("seen", features=[Feature("last", "timestamp")])
    write_rows(lake, view, [{"user": 1, "at": DAY, "last": DAY - HOUR}])
    rows = joined(spine([DAY], user=[1]), [view]).to_arrow()
    assert rows.schema.field("event_time").type == rows.schema.field("seen__last").type == UTC_MICROS
    assert rows["seen__last"].to_pylist() == [DAY - HOUR]


def test_a_column_of_any_zone_means_its_instants_and_one_of_none_is_refused(lake: Lake, joined: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY + n * HOUR, "amount": float(n)} for n in range(12)])
    frame = pd.DataFrame({"user": [1], "event_time": pd.to_datetime([DAY + 5 * HOUR])})
    for zone in ("Europe/Berlin", "US/Pacific", "Asia/Tokyo"):
        given = frame.assign(event_time=frame["event_time"].dt.tz_convert(zone))
        assert joined(given, [SPEND]).to_arrow()["spend__amount"].to_pylist() == [5.0]
    with pytest.raises(SpineError, match="without a time zone"):
        joined(frame.assign(event_time=frame["event_time"].dt.tz_localize(None)), [SPEND])


@pytest.mark.parametrize(("ttl", "amount"), [(None, 1.0), (hours(2), None), (hours(3), 1.0)])
def test_the_ttl_is_the_one_the_view_has_now(lake: Lake, joined: Join, ttl: timedelta | None, amount: float | None) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    now = a_view(ttl=ttl)
    assert joined(spine([DAY + 3 * HOUR], user=[1]), [now]).to_arrow()["spend__amount"].to_pylist() == [amount]


def test_values_of_every_type_come_back_as_they_were(lake: Lake, joined: Join) -> None:
    values: dict[str, Any] = {
        "bool": False,
        "int32": -1,
        "int64": 2**62,
        "float32": 0.5,
        "float64": 1e300,
        "string": "",
        "timestamp": DAY,
        "list[int64]": [1, None, 3],
        "list[string]": [],
    }
    features = [Feature(f"f{n}", dtype) for n, dtype in enumerate(values)]
    view = a_view("typed", features=features)
    named = {f"f{n}": value for n, value in enumerate(values.values())}
    write_rows(lake, view, [{"user": 1, "at": DAY, **named}, {"user": 2, "at": DAY}])
    rows = joined(spine([DAY, DAY], user=[1, 2]), [view]).to_arrow().sort_by("user")
    assert [rows[f"typed__f{n}"].to_pylist() for n in range(len(values))] == [[value, None] for value in values.values()]


@pytest.fixture
def tokyo(spark: Any) -> Iterator[Any]:
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    yield spark
    spark.conf.set("spark.sql.session.timeZone", "UTC")


@pytest.mark.real
@pytest.mark.parametrize("engine", ["columnar", "sql"])
def test_a_session_east_of_utc_gets_the_newest_value(tokyo: Any, lake: Lake, engine: Any) -> None:
    # Feast in Asia/Tokyo gives the value that is 22 h old, not the one that is 4 h old
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 2.0}, {"user": 1, "at": DAY + 18 * HOUR, "amount": 20.0}])
    given = FrameRows(tokyo.createDataFrame(spine([DAY + 22 * HOUR], user=[1])))
    rows = join(lake, given, view_joins(lake, select([SPEND], ""), "event"), resources_of(tokyo), engine).to_spark().toArrow()
    assert rows["spend__amount"].to_pylist() == [20.0]
    assert rows["event_time"].cast(UTC_MICROS).to_pylist() == [DAY + 22 * HOUR]


@pytest.mark.real
@pytest.mark.parametrize("engine", ["columnar", "sql"])
def test_two_joins_in_one_session_at_once_keep_to_their_own_spines(spark: Any, lake: Lake, engine: Any) -> None:
    # Feast's temporary views have fixed names: one retrieval can read the other's spine
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(40)])
    joins = view_joins(lake, select([SPEND], ""), "event")
    spines = [FrameRows(spark.createDataFrame(spine([DAY] * 20, user=list(range(first, first + 20))))) for first in (0, 20)]
    planned = [join(lake, one, joins, resources_of(spark), engine) for one in spines]
    found: dict[int, list[Any]] = {}

    def collect(n: int) -> None:
        found[n] = sorted(planned[n].to_arrow()["spend__amount"].to_pylist())

    threads = [Thread(target=collect, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: [float(n) for n in range(20)], 1: [float(n) for n in range(20, 40)]}


def test_a_table_whose_files_are_not_its_rows_is_never_read_as_if_they_were(lake: Lake, columnar: Join, tmp_path: Path) -> None:
    # Feast ignores what its engine does not know; here that engine is refused, by name and reason
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    lake.open("features/spend/v1").alter.set_table_properties({"delta.enableDeletionVectors": "true"})
    with pytest.raises(SpineError, match="the columnar engine cannot join this: features/spend/v1: the table has deletion vectors"):
        columnar(spine([DAY], user=[1]), [SPEND])


def test_a_spine_that_changes_after_it_was_named_is_read_at_its_version(lake: Lake, columnar: Join, tmp_path: Path) -> None:
    from penstock.point_in_time.spine import DeltaRows

    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    where = str(tmp_path / "spine")
    write_deltalake(where, spine([DAY], user=[1]))
    planned = columnar(DeltaRows(where, 0), [SPEND])
    write_deltalake(where, spine([DAY] * 3, user=[1, 2, 3]), mode="append")
    assert planned.to_arrow().num_rows == 1
    assert table_rows(spine([DAY], user=[1])).extent().rows == 1
