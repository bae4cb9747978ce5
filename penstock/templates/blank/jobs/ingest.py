"""How raw facts are fetched, for sources that are ingested: name -> function(name, start, end, known_by) -> Arrow table.

A source over a table that is there already (`table=parquet(...)` or `table=delta(...)`) is read where it is and
needs nothing here.
"""

from penstock.offline.ingest import Fetch

FETCH: dict[str, Fetch] = {}
