"""How the raw facts are fetched: from the endless repeat of the flights of 2013."""

from jobs.flights_data import SCHEMAS, facts

FETCH = dict.fromkeys(SCHEMAS, facts)
