"""`penstock contract`: the rules of a view, shown and written as a suite of Great Expectations."""

import json

import pytest

from tests.cli.test_commands import Shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("contract"))


def test_rules_are_shown_with_what_breaking_one_does(shop: Shop) -> None:
    shop.view.write_text(
        shop.view.read_text().replace("    ttl=", '    row_count=(0, 5_000),\n    warn_only=["rows_at_most_5000"],\n    ttl=', 1)
    )
    code, said = shop.say("contract", "show")
    assert code == 0
    lines = [line for line in said.splitlines() if "spending@1" in line]
    (rows,) = (line for line in lines if "rows_at_most_5000" in line)
    assert "rows at most 5000" in rows
    assert "warns" in rows
    (keys,) = (line for line in lines if "join_keys_not_null" in line)
    assert "refused" in keys
    assert not any("has_rows" in line for line in lines)


def test_suites_are_written_a_file_for_each_view(shop: Shop) -> None:
    code, said = shop.say("contract", "export", "--to", "suites")
    assert code == 0
    written = json.loads((shop.folder / "suites" / "spending.v1.json").read_text())
    assert f"suites/spending.v1.json: {len(written['expectations'])} expectations" in said
    assert {one["severity"] for one in written["expectations"]} == {"critical", "warning"}


def test_a_view_that_is_not_there_is_named(shop: Shop) -> None:
    code, said = shop.say("contract", "export", "spendings")
    assert code == 1
    assert "no feature view 'spendings'" in said


def test_a_file_that_cannot_be_written_is_named(shop: Shop) -> None:
    code, said = shop.say("contract", "export", "--to", "conf/base.yaml")
    assert code == 1
    assert "cannot write conf/base.yaml/spending.v1.json" in said
