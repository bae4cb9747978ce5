"""The outcomes of checks as CI systems read them."""

from xml.etree import ElementTree

from penstock.report.checks import Checked, Outcome, junit, markdown

CASES = [
    Checked("definitions", "registry", Outcome.WARNING, "a | b"),
    Checked("spending@1", "contract", Outcome.FAILED, "3 row(s) < 0 & \"null\""),
    Checked("spending@1", "values", Outcome.SKIPPED, "nothing committed"),
    Checked("spending@1", "served", Outcome.PASSED, "all"),
]  # fmt: skip


def test_junit_has_a_suite_for_each_thing_and_counts_what_failed() -> None:
    root = ElementTree.fromstring(junit("check", CASES))
    assert {name: root.get(name) for name in ("tests", "failures", "skipped")} == {"tests": "4", "failures": "1", "skipped": "1"}
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [("definitions", "1"), ("spending@1", "3")]
    (failure,) = root.iter("failure")
    assert failure.get("message") == '3 row(s) < 0 & "null"'
    assert [one.text for one in root.iter("system-out")] == ["warning: a | b", "passed: all"]


def test_markdown_is_a_table_whatever_is_said() -> None:
    lines = markdown("penstock check", CASES).splitlines()
    assert lines[0] == "## penstock check"
    assert lines[4] == "| warning | definitions | registry | a \\| b |"
    assert lines[5].startswith("| **failed** | spending@1 | contract |")
    assert {line.replace("\\|", "").count("|") for line in lines[2:]} == {5}
