"""What the project defines is right, and Dagster can load it."""

import dagster as dg

import penstock
from jobs.definitions import defs


def test_every_definition_keeps_the_rules() -> None:
    assert penstock.open().snapshot.project == "feature_assets"


def test_dagster_loads_the_project() -> None:
    dg.Definitions.validate_loadable(defs)
