"""What happened: facts about flights from New York, each with when it was true and when it was known."""

from penstock.contract import Source, available_after, available_at, hours

FLIGHT = {
    "flight_id": "string",
    "carrier": "string",
    "flight": "int32",
    "tailnum": "string",
    "origin": "string",
    "dest": "string",
    "sched_dep_time": "timestamp",
}

departures = Source(
    "departures",
    schema={**FLIGHT, "dep_delay_min": "int32", "distance_miles": "int32", "event_time": "timestamp"},
    owner="flight-ops",
    description="a flight has left",
)
arrivals = Source(
    "arrivals",
    schema={**FLIGHT, "arr_delay_min": "int32", "air_time_min": "int32", "event_time": "timestamp", "available_time": "timestamp"},
    availability=available_at("available_time", at_most=hours(6)),
    owner="flight-ops",
    description="a flight has landed; one report in twenty comes in up to six hours late",
)
weather = Source(
    "weather",
    schema={
        "origin": "string",
        "temp": "float64",
        "dewp": "float64",
        "humid": "float64",
        "wind_dir": "float64",
        "wind_speed": "float64",
        "precip": "float64",
        "pressure": "float64",
        "visib": "float64",
        "event_time": "timestamp",
    },
    availability=available_after(hours(1)),
    owner="meteorology",
    description="the weather of an hour, known when the hour is over",
)
planes = Source(
    "planes",
    schema={
        "tailnum": "string",
        "year": "int32",
        "manufacturer": "string",
        "engines": "int32",
        "seats": "int32",
        "engine": "string",
        "event_time": "timestamp",
    },
    owner="fleet",
    description="the register of aircraft, which comes out every midnight UTC",
)
