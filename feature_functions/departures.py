"""What follows from when a flight leaves, and from how its carrier does beside its route."""

import numpy as np

from penstock.contract import Columns


def departure_time(columns: Columns) -> Columns:
    """Hour of the day and day of the week (Monday is 0) of the scheduled departure, UTC."""
    hours = columns["sched_dep_time"].astype("datetime64[h]").astype(np.int64)
    days = hours // 24
    return {"hour": (hours % 24).astype(np.int32), "weekday": ((days + 3) % 7).astype(np.int32)}  # 1970-01-01 was a Thursday


def carrier_on_route(columns: Columns) -> Columns:
    """By how much a carrier's flights have been later than all flights on the route."""
    return {"behind_min": columns["carrier_origin_delays__arr_delay_min_mean_1d"] - columns["route_delays__arr_delay_min_mean_1d"]}
