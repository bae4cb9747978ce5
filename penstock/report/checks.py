"""The outcomes of checks for machines and for people: JUnit's XML, and a table in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from xml.etree import ElementTree


class Outcome(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    WARNING = "warning"
    """It changes what somebody is given, which may be what is wanted."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was nothing to look at."""


@dataclass(frozen=True)
class Checked:
    """One check.

    Args:
        of: what was checked: `definitions`, or a view as `name@version`.
        name, outcome: which check, and what it came to.
        said: in a sentence.
    """

    of: str
    name: str
    outcome: Outcome
    said: str


def junit(name: str, cases: Sequence[Checked]) -> str:
    """JUnit's XML: a test suite for each thing that was checked. A warning is a passed test with what was said as its output."""
    root = ElementTree.Element("testsuites", {"name": name, **_counts(cases)})
    for of, group in groupby(cases, key=lambda case: case.of):
        mine = list(group)
        suite = ElementTree.SubElement(root, "testsuite", {"name": of, **_counts(mine)})
        for case in mine:
            test = ElementTree.SubElement(suite, "testcase", classname=of, name=case.name)
            if case.outcome is Outcome.FAILED:
                ElementTree.SubElement(test, "failure", message=case.said)
            elif case.outcome is Outcome.SKIPPED:
                ElementTree.SubElement(test, "skipped", message=case.said)
            else:
                ElementTree.SubElement(test, "system-out").text = f"{case.outcome}: {case.said}"
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(title: str, cases: Sequence[Checked]) -> str:
    """A heading and a table, for a pull request's summary."""
    rows = [f"| {_marked(case)} | {_cell(case.of)} | {_cell(case.name)} | {_cell(case.said)} |" for case in cases]
    return "\n".join([f"## {_cell(title)}", "", "| outcome | of | check | |", "| --- | --- | --- | --- |", *rows, ""])


def _counts(cases: Sequence[Checked]) -> dict[str, str]:
    counted = {"tests": len(cases), "failures": 0, "skipped": 0}
    for case in cases:
        counted["failures"] += case.outcome is Outcome.FAILED
        counted["skipped"] += case.outcome is Outcome.SKIPPED
    return {name: str(count) for name, count in counted.items()}


def _marked(case: Checked) -> str:
    return f"**{case.outcome}**" if case.outcome is Outcome.FAILED else case.outcome


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
