"""The repeated flights: true to 2013, without end, and never known too early."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.flights_data import SCHEMAS, facts, flights_of_2013, register_of_2013, schedule, to_local, to_utc, weather_of_2013

NEW_YORK = ZoneInfo("America/New_York")
MINUTE, DAY, CYCLE = timedelta(minutes=1), timedelta(days=1), timedelta(days=364)
HOUR_US = 3_600_000_000
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py())


def wait_us(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Microseconds from event time to available time."""
    wait: npt.NDArray[np.int64] = pc.subtract(rows["available_time"], rows["event_time"]).cast(pa.int64()).to_numpy()
    return wait


def year_2013() -> pd.DataFrame:
    """All flights of 2013 with scheduled, left (UTC) and elapsed_min."""
    flights = flights_of_2013()
    rows: pd.DataFrame = flights.columns.to_pandas()
    rows["scheduled"] = to_utc(flights.clock, "America/New_York")
    rows["left"] = rows["scheduled"] + pd.to_timedelta(rows["dep_delay_min"], unit="min")
    return rows


def series_start() -> datetime:
    return datetime(2013, 1, 1, tzinfo=NEW_YORK)


def test_2013_has_the_published_counts() -> None:
    columns = flights_of_2013().columns
    labels = columns["arr_delay_min"].drop_null()
    assert len(columns) == 336_776
    assert columns["dep_delay_min"].null_count == 8_255
    assert columns["tailnum"].null_count == 2_512
    assert len(labels) == 327_346
    assert round(count(pc.greater(labels, 15)) / len(labels), 3) == 0.237
    assert len(register_of_2013()) == 3_322
    assert len(weather_of_2013().columns) == 26_115 - 3  # 01:00 on 3 November came twice at 3 airports


def test_every_arrival_clock_of_2013_finds_its_instant() -> None:
    rows = year_2013()
    assert rows["elapsed_min"].notna().sum() == 336_776 - 8_713
    assert not (rows["arr_delay_min"].notna() & rows["elapsed_min"].isna()).any()


def test_arrival_minus_its_delay_shows_the_scheduled_arrival_on_the_clock_there() -> None:
    rows = year_2013().dropna(subset=["arr_delay_min"])
    planned = rows["left"] + pd.to_timedelta(rows["elapsed_min"] - rows["arr_delay_min"], unit="min")
    compared = 0
    for zone, there in planned.groupby(rows["zone"]):
        clock = pd.Series(to_local(there.to_numpy().astype("M8[us]"), str(zone)), there.index)
        shown = clock.dt.hour * 100 + clock.dt.minute
        assert (shown == rows.loc[there.index, "sched_arr_hhmm"] % 2400).all()
        compared += len(there)
    assert compared == 327_346


def test_taxiing_takes_5_to_235_minutes() -> None:
    rows = year_2013().dropna(subset=["air_time_min"])
    taxi_min = rows["elapsed_min"] - rows["air_time_min"]
    assert (taxi_min.min(), taxi_min.max()) == (5, 235)


def test_the_longest_delayed_flights_are_found_in_the_minute_they_land() -> None:
    rows = year_2013().dropna(subset=["arr_delay_min"])
    landed = rows["left"] + pd.to_timedelta(rows["elapsed_min"], unit="min")
    date_name = pd.Series(flights_of_2013().clock.astype("M8[D]"))[rows.index]
    latest = (landed - date_name).nlargest(5).index
    assert (landed - date_name)[latest[0]] == timedelta(hours=46, minutes=42)  # the landing's UTC date and the one before hold all
    for flight in latest:
        at = landed[flight].to_pydatetime().replace(tzinfo=UTC)
        ids = facts("arrivals", at, at + MINUTE)["flight_id"].to_pylist()
        assert f"{date_name[flight]:%Y-%m-%d}/{rows['daily_id'][flight]}" in ids


def test_an_arrival_in_the_hour_spring_skipped_keeps_its_delay() -> None:
    # B6 35 to Palm Beach landed 10 March at "02:03", which no clock showed: 02:03 EST = 07:03Z = 00:34 EST + 89 min.
    landed = facts("arrivals", datetime(2013, 3, 10, 7, 3, tzinfo=UTC), datetime(2013, 3, 10, 7, 4, tzinfo=UTC)).to_pylist()
    assert [(row["flight_id"], row["arr_delay_min"]) for row in landed] == [("2013-03-09/B6/35/JFK/2145", 89)]


def test_the_first_flight_of_the_series_is_as_recorded() -> None:
    # UA 1545 to Houston: 05:15 in New York is 10:15Z, left 2 min late; 08:30 in Houston is 14:30Z.
    first = schedule(date(2013, 1, 1)).slice(0, 1).to_pylist()[0]
    assert first["flight_id"] == "2013-01-01/UA/1545/EWR/0515"
    assert first["sched_dep_time"] == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert first["arr_delay_min"] == 11
    assert first["label_time"] == datetime(2013, 1, 1, 14, 30, 0, 1, tzinfo=UTC)


def test_the_same_flights_return_after_364_days_on_the_same_weekday() -> None:
    for day in (date(2013, 1, 1), date(2013, 12, 30), date(2026, 11, 24)):
        assert (day + CYCLE).weekday() == day.weekday()
        columns = ["carrier", "flight", "tailnum", "origin", "dest", "distance_miles", "arr_delay_min"]
        now, later = schedule(day), schedule(day + CYCLE)
        assert len(now) > 600
        assert now.select(columns).equals(later.select(columns))
        clocks = [[at.astimezone(NEW_YORK).time() for at in rows["sched_dep_time"].to_pylist()] for rows in (now, later)]
        assert clocks[0] == clocks[1]


def test_the_last_day_of_2013_is_the_first_day_again() -> None:
    assert schedule(date(2013, 12, 31))["flight"].equals(schedule(date(2013, 1, 1))["flight"])


def test_the_series_has_no_rows_before_2013() -> None:
    assert len(schedule(date(2012, 12, 31))) == 0
    assert all(len(facts(table, series_start() - 30 * DAY, series_start())) == 0 for table in SCHEMAS)


@pytest.mark.parametrize("year", [2026, 2027, 2040])
@pytest.mark.parametrize("table", SCHEMAS)
def test_the_series_goes_on_past_today(table: str, year: int) -> None:
    rows = facts(table, NOON.replace(year=year), NOON.replace(year=year) + DAY)
    assert len(rows) >= (60 if table == "weather" else 600)


def test_two_years_repeat_no_id_and_hold_every_departed_and_landed_flight_twice() -> None:
    start, end = series_start(), datetime(2014, 12, 30, tzinfo=NEW_YORK)  # 728 days
    departures, arrivals = facts("departures", start, end + 3 * DAY), facts("arrivals", start, end + 3 * DAY)
    for rows, measure in ((departures, "dep_delay_min"), (arrivals, "arr_delay_min")):
        ids = rows["flight_id"].filter(pc.less(rows["flight_id"], "2014-12-30"))
        assert pc.count_distinct(ids).as_py() == len(ids)
        last_day = np.searchsorted(flights_of_2013().clock, np.datetime64("2013-12-31"))
        assert len(ids) == 2 * len(flights_of_2013().columns[measure][:last_day].drop_null())
    assert pc.all(pc.is_in(arrivals["flight_id"], departures["flight_id"])).as_py()


def test_weather_has_one_row_per_airport_and_hour_over_two_years() -> None:
    rows = facts("weather", series_start(), series_start() + 2 * CYCLE).to_pandas()
    assert not rows.duplicated(["origin", "event_time"]).any()
    assert len(rows) == 2 * 26_112


def test_the_register_comes_out_whole_every_midnight() -> None:
    rows = facts("planes", NOON, NOON + 2 * DAY).to_pandas()
    assert sorted(rows["event_time"].unique()) == [NOON + DAY / 2, NOON + 3 * DAY / 2]
    assert len(rows) == 2 * 3_322 == 2 * rows["tailnum"].nunique()


def test_weather_of_a_23_hour_day_has_23_hours_and_its_own_observations() -> None:
    # 2027-03-14 repeats 2013-03-31, which has 24 hours; 02:00 is skipped, so 03:00 EDT = 07:00Z is the one of 03:00.
    start = datetime(2027, 3, 14, tzinfo=NEW_YORK)
    rows = facts("weather", start, start + DAY)
    assert len(rows) == 23 * 3
    three = rows.filter(pc.equal(rows["event_time"], datetime(2027, 3, 14, 7, tzinfo=UTC)))["temp"]
    base = facts("weather", datetime(2013, 3, 31, 7, tzinfo=UTC), datetime(2013, 3, 31, 8, tzinfo=UTC))["temp"]  # 03:00 EDT
    assert three.to_pylist() == base.to_pylist()


@pytest.mark.parametrize("table", SCHEMAS)
def test_no_fact_is_known_before_it_happened(table: str) -> None:
    rows = facts(table, series_start(), series_start() + 2 * CYCLE)
    expected = {"departures": (1, 1), "arrivals": (1, 6 * HOUR_US), "weather": (HOUR_US, HOUR_US), "planes": (1, 1)}
    assert (wait_us(rows).min(), wait_us(rows).max()) == expected[table]


def test_one_arrival_in_twenty_is_reported_between_a_minute_and_six_hours_late() -> None:
    wait = wait_us(facts("arrivals", NOON - CYCLE, NOON))
    late = wait[wait > 1]
    assert 0.045 <= len(late) / len(wait) <= 0.055
    assert late.min() >= HOUR_US / 60
    assert late.max() <= 6 * HOUR_US
    assert abs(late.mean() / HOUR_US - 3) < 0.1  # uniform over 0 to 6 h


def test_a_reporting_lag_is_the_same_on_every_machine() -> None:
    # pinned: a pandas whose hash differs would rewrite what was known when
    rows = facts("arrivals", NOON, NOON + timedelta(hours=2))
    late = rows.filter(wait_us(rows) > 1).to_pylist()
    assert {row["flight_id"]: row["available_time"] for row in late} == {
        "2026-11-23/WN/1716/LGA/0600": datetime(2026, 11, 23, 14, 0, 42, tzinfo=UTC),
        "2026-11-23/EV/4714/EWR/0610": datetime(2026, 11, 23, 16, 30, 43, tzinfo=UTC),
    }


@pytest.mark.parametrize("table", [table for table in SCHEMAS if table != "planes"])  # no midnight soon after noon
def test_known_by_hides_exactly_what_was_known_later_and_a_later_call_adds_it(table: str) -> None:
    start, end = NOON - 2 * DAY, NOON + timedelta(hours=2)
    everything, known = facts(table, start, end), facts(table, start, end, known_by=NOON)
    added = everything.filter(pc.greater(everything["available_time"], NOON))
    assert min(len(known), len(added)) > 0
    order = [("event_time", "ascending"), (everything.column_names[0], "ascending")]
    assert pa.concat_tables([known, added]).sort_by(order).combine_chunks().equals(everything)
    assert facts(table, start, end, known_by=end + timedelta(hours=6)).equals(everything)


def test_a_late_report_is_missed_at_first_and_found_by_a_later_ingest() -> None:
    landed = facts("arrivals", NOON - DAY, NOON)
    missed = set(landed["flight_id"].to_pylist()) - set(facts("arrivals", NOON - DAY, NOON, known_by=NOON)["flight_id"].to_pylist())
    late = landed.filter(wait_us(landed) > 1)
    assert missed
    assert missed < set(late["flight_id"].to_pylist())


def test_known_by_includes_what_became_known_at_that_instant() -> None:
    landed = facts("arrivals", NOON - DAY, NOON).slice(0, 1)
    at = landed["event_time"][0].as_py(), landed["available_time"][0].as_py()
    first = landed["flight_id"][0].as_py()
    assert first in facts("arrivals", at[0], at[0] + MINUTE, known_by=at[1])["flight_id"].to_pylist()
    assert first not in facts("arrivals", at[0], at[0] + MINUTE, known_by=at[0])["flight_id"].to_pylist()


@pytest.mark.parametrize("table", SCHEMAS)
def test_windows_that_meet_neither_repeat_nor_lose_a_row(table: str) -> None:
    start, hours = datetime(2026, 10, 31, tzinfo=UTC), [0, 1, 7, 30, 31, 72]  # over the end of daylight saving
    pieces = [facts(table, start + timedelta(hours=a), start + timedelta(hours=b)) for a, b in pairwise(hours)]
    whole = facts(table, start, start + timedelta(hours=72))
    assert pa.concat_tables(pieces).combine_chunks().equals(whole)
    assert whole.schema.equals(SCHEMAS[table])


def test_clocks_stay_and_utc_moves_when_daylight_saving_changes() -> None:
    # 2026-11-01 ends daylight saving: 06:00 in New York is 10:00Z the day before and 11:00Z on the day.
    for day, utc_hour in ((date(2026, 10, 31), 10), (date(2026, 11, 1), 11)):
        rows = schedule(day).to_pylist()
        six = [row for row in rows if row["flight_id"].endswith("/0600")]
        assert len(six) > 10
        assert {row["sched_dep_time"] for row in six} == {datetime(day.year, day.month, day.day, utc_hour, tzinfo=UTC)}


def test_durations_stay_when_daylight_saving_changes_under_a_flight() -> None:
    # the days before and of a change; flights in the air at 06:00Z or 07:00Z fly through it
    for day in (date(2026, 10, 31), date(2026, 11, 1), date(2027, 3, 13), date(2027, 3, 14)):
        start = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
        arrivals = facts("arrivals", start, start + 4 * DAY).to_pandas().set_index("flight_id")
        departures = facts("departures", start, start + 4 * DAY).to_pandas().set_index("flight_id")
        both = departures.join(arrivals[["event_time", "air_time_min"]], rsuffix="_arrived", how="inner")
        taxi = both["event_time_arrived"] - both["event_time"] - pd.to_timedelta(both["air_time_min"], unit="min")
        assert len(both) > 2_000
        assert taxi.between(5 * MINUTE, 235 * MINUTE).all()
        late = both["event_time"] - both["sched_dep_time"]
        assert (late == pd.to_timedelta(both["dep_delay_min"], unit="min")).all()


def test_a_skipped_clock_shifts_forward_and_a_repeated_one_is_the_first() -> None:
    # 2027-03-14 02:30 does not exist: 02:30 EST = 07:30Z; 2026-11-01 01:30 comes twice: first as EDT, 05:30Z.
    clocks = np.array(["2027-03-14T02:30", "2026-11-01T01:30", "2050-07-01T12:00"], "M8[us]")
    assert to_utc(clocks, "America/New_York").tolist() == [
        datetime(2027, 3, 14, 7, 30),
        datetime(2026, 11, 1, 5, 30),
        datetime(2050, 7, 1, 16, 0),
    ]


def test_schedule_and_facts_agree_on_flights_and_labels() -> None:
    day = date(2026, 11, 23)
    start = datetime(2026, 11, 23, tzinfo=NEW_YORK)
    timetable = {row["flight_id"]: (row["arr_delay_min"], row["label_time"]) for row in schedule(day).to_pylist()}
    arrivals = [row for row in facts("arrivals", start, start + 4 * DAY).to_pylist() if row["flight_id"].startswith("2026-11-23")]
    assert {row["flight_id"]: (row["arr_delay_min"], row["available_time"]) for row in arrivals} == {
        flight: label for flight, label in timetable.items() if label != (None, None)
    }
    assert all((delay is None) == (at is None) for delay, at in timetable.values())


@pytest.mark.parametrize("name", ["start", "end", "known_by"])
def test_a_naive_datetime_is_refused_by_name(name: str) -> None:
    window = {"start": NOON - DAY, "end": NOON, "known_by": NOON}
    window[name] = window[name].replace(tzinfo=None)
    with pytest.raises(ValueError, match=f"{name} is naive"):
        facts("weather", **window)


def test_what_is_not_a_window_table_or_date_is_refused() -> None:
    with pytest.raises(ValueError, match="is before start"):
        facts("weather", NOON, NOON - DAY)
    with pytest.raises(ValueError, match="no table 'ships' in the flights data; expected one of departures, arrivals, weather, planes"):
        facts("ships", NOON, NOON)
    with pytest.raises(TypeError, match="give a date"):
        schedule(NOON)
