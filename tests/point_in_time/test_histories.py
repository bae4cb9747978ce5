"""The generated histories tell wrong rules from the right one: each boundary and clause of as_of.py, changed, gives other answers."""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

import penstock.as_of
from tests.point_in_time.histories import KEYS, MODES, STEP, Generated, answers_by_rule, generate

SOURCE = Path(penstock.as_of.__file__).read_text(encoding="utf-8")
CASES = 60
# The rarest is seen in one history of seven, most in more than half: of the 36 of a run of the columnar engine, one all but surely does.
SEEN_IN = 0.14

WRONG = {
    "a row at t itself is not used": ("if row.event_time <= t and", "if row.event_time < t and"),
    "a row available at t itself is not known": ("return row.available_time <= t and", "return row.available_time < t and"),
    "a row readable at t itself is not known": ("readable is not None and readable <= t", "readable is not None and readable < t"),
    "a value exactly ttl old is not used": ("t - newest.event_time <= ttl", "t - newest.event_time < ttl"),
    "ttl is not looked at": ("if ttl is None or", "if True or"),
    "of equal event times the row created first counts": ("> (other.created_time, other.digest)", "< (other.created_time, other.digest)"),
    "of equal created times the smaller digest counts": (
        "if other is None or (row.created_time, row.digest) > (other.created_time, other.digest)",
        "if other is None or (row.created_time, other.digest) > (other.created_time, row.digest)",
    ),
    "a correction is known before it was created": (" and (row.created_time <= t or not is_correction(row, history))", ""),
    "every row must have been created": ("or not is_correction(row, history)", ""),
    "a retraction leaves the row it retracts": ("if row.event_time <= t and", "if not row.retracted and row.event_time <= t and"),
    "availability is dropped": ("return row.available_time <= t and (", "return ("),
    "live_since itself is before it was live": ("t >= history.live_since", "t > history.live_since"),
    "the ledger is not looked at": ('return mode == "observed" and', "return False and"),
    "only a row's own publication makes it readable": ("entry.attempt >= row.attempt", "entry.attempt == row.attempt"),
    "what was never committed counts": ("if not any((a.partition, a.attempt)", "if False and not any((a.partition, a.attempt)"),
    "what was created as the view went live is no correction": (
        "row.created_time < history.live_since",
        "row.created_time <= history.live_since",
    ),
    "what was completed up to a row is not corrected by it": ("a.complete_until >= row.event_time", "a.complete_until > row.event_time"),
    "a mark does not act before a publication": ("if is_live(t, mode, history) and any(mark.in", "if False and any(mark.in"),
    "what was taken back is known": (" and not any(mark.excludes(t) and mark.covers(row) for mark in history.marks)", ""),
    "a mark acts the microsecond after it was made": ("self.marked_at <= t and", "self.marked_at < t and"),
    "a lifted mark goes on acting": (" and (self.lifted_at is None or t < self.lifted_at)", ""),
    "a mark is lifted the microsecond after": ("t < self.lifted_at", "t <= self.lifted_at"),
    "what was taken back is never restored": (" and (self.restored_at is None or t < self.restored_at)", ""),
    "it is restored the microsecond after": ("t < self.restored_at", "t <= self.restored_at"),
    "it is taken back the microsecond after": ("self.excluded_at <= t", "self.excluded_at < t"),
    "a mark covers what is computed after it": ("row.created_time <= self.marked_at", "True"),
    "a mark covers every attempt": ("self.attempt is None or row.attempt == self.attempt", "True"),
    "a mark covers all event times before its end": ("self.since is None or row.event_time >= self.since", "True"),
    "a mark covers its end": ("row.event_time < self.until", "row.event_time <= self.until"),
    "marks act in all modes": ("if is_live(t, mode, history) and any(mark.in", "if any(mark.in"),
    "a partition is corrected by its first attempt": (" and a.attempt < row.attempt", ""),
}


def rule(source: str) -> ModuleType:
    module = ModuleType("as_of_changed")
    module.__dict__["__name__"] = penstock.as_of.__name__  # dataclasses look their module up
    exec(compile(source, "as_of_changed", "exec"), module.__dict__)
    return module


@cache
def case_and_answers(seed: int) -> tuple[Generated, list[Counter[tuple[object, ...]]]]:
    case = generate(Random(seed), list(KEYS)[seed % 3], [None, 6 * STEP, STEP][seed // 3 % 3])
    return case, [answers_by_rule(case, mode) for mode in MODES]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rule_answers_otherwise(wrong: str) -> None:
    right, changed = WRONG[wrong]
    assert SOURCE.count(right) == 1
    other = rule(SOURCE.replace(right, changed))
    seen = looked_at = 0
    while seen < SEEN_IN * CASES and looked_at < CASES:
        case, answers = case_and_answers(looked_at)
        marks = tuple(other.Mark(**vars(mark)) for mark in case.history.marks)  # what a mark covers is part of the rule
        changed_case = replace(case, history=replace(case.history, marks=marks))
        seen += any(answers_by_rule(changed_case, mode, other.as_of) != of_mode for mode, of_mode in zip(MODES, answers, strict=True))
        looked_at += 1
    assert seen >= SEEN_IN * CASES
