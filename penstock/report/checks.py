"""The outcomes of checks for machines and for people: JUnit's XML, and a table in Markdown."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple
from xml.etree import ElementTree


class Case(NamedTuple):
    """One check.

    Args:
        of, name: what was checked, and which check it was.
        outcome: what it came to.
        said: in a sentence.
    """

    of: str
    name: str
    outcome: Literal["passed", "warning", "failed", "skipped"]
    said: str


def junit(name: str, cases: Sequence[Case]) -> str:
    """JUnit's XML: a test suite for each thing that was checked. A warning is a passed test with what was said as its output."""
    root = ElementTree.Element("testsuites", {"name": name, **_counts(cases)})
    for of, group in groupby(cases, key=lambda case: case.of):
        mine = list(group)
        suite = ElementTree.SubElement(root, "testsuite", {"name": of, **_counts(mine)})
        for case in mine:
            test = ElementTree.SubElement(suite, "testcase", classname=of, name=case.name)
            if case.outcome == "failed":
                ElementTree.SubElement(test, "failure", message=case.said)
            elif case.outcome == "skipped":
                ElementTree.SubElement(test, "skipped", message=case.said)
            else:
                ElementTree.SubElement(test, "system-out").text = f"{case.outcome}: {case.said}"
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(title: str, cases: Sequence[Case]) -> str:
    """A heading and a table, for a pull request's summary."""
    rows = [f"| {_marked(case)} | {_cell(case.of)} | {_cell(case.name)} | {_cell(case.said)} |" for case in cases]
    return "\n".join([f"## {_cell(title)}", "", "| outcome | of | check | |", "| --- | --- | --- | --- |", *rows, ""])


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    counted = {"tests": len(cases), "failures": 0, "skipped": 0}
    for case in cases:
        counted["failures"] += case.outcome == "failed"
        counted["skipped"] += case.outcome == "skipped"
    return {name: str(count) for name, count in counted.items()}


def _marked(case: Case) -> str:
    return f"**{case.outcome}**" if case.outcome == "failed" else case.outcome


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
