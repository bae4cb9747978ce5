"""The settings that docs/cassandra.md shows are settings, and the table of rights names what `penstock online ddl` makes."""

import re
from pathlib import Path

import pytest
import yaml

from penstock.config import CassandraSettings
from penstock.online.cassandra.schema import CONTROL_TABLES, ddl

PAGE = (Path(__file__).parents[2] / "docs" / "cassandra.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_settings_can_be_used(example: str) -> None:
    settings = CassandraSettings(**yaml.safe_load(example)["cassandra"])
    assert settings.mode == "external"
    keyspace, *tables = ddl(settings, ["carrier", "route"])
    assert "CREATE KEYSPACE IF NOT EXISTS features" in keyspace
    assert ("'eu-west': 3, 'us-east': 3" in keyspace) == (settings.secure_connect_bundle is None)
    assert len(tables) == len(CONTROL_TABLES) + 2


def test_the_page_counts_the_control_tables() -> None:
    assert len(EXAMPLES) == 2
    assert len(CONTROL_TABLES) == 6
    assert "six control tables" in PAGE
