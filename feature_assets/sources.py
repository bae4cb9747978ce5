"""What happened: facts about flights from New York, each with when it was true and when it was known."""

from penstock.contract import Source, available_at, hours

arrivals = Source(
    "arrivals",
    schema={
        "flight_id": "string",
        "carrier": "string",
        "flight": "int32",
        "tailnum": "string",
        "origin": "string",
        "dest": "string",
        "sched_dep_time": "timestamp",
        "arr_delay_min": "int32",
        "air_time_min": "int32",
        "event_time": "timestamp",
        "available_time": "timestamp",
    },
    availability=available_at("available_time", at_most=hours(6)),
    owner="flight-ops",
    description="a flight has landed; one report in twenty comes in up to six hours late",
)
