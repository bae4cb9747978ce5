"""The project in Dagster."""

from pathlib import Path

from jobs.ingest import FETCH
from penstock.orchestration import definitions

defs = definitions(Path(__file__).parent.parent, ingest=FETCH)
