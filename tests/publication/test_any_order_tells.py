"""The machine of `test_any_order.py` tells wrong publications from right ones: each of these mistakes, made in it, is found.

Each is one that somebody could make, and of which a publication that is neither killed nor overtaken shows nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from penstock.online.ledger import Intent, Publication
from penstock.online.memory import MemoryStore
from penstock.online.store import Write
from penstock.publication import encode, next_step, publish
from penstock.publication.readable import THIS, Obeyed, readable_from
from penstock.registry.marks import Mark, joined
from tests.publication import test_any_order as machine

Patch = pytest.MonkeyPatch
SLOW = pytest.mark.real  # found after ten or twenty seconds: not in the fast part
# Examples are not made small: it is enough that there is one.
FINDING = settings(max_examples=3000, stateful_step_count=40, phases=[Phase.generate], print_blob=False)


def what_was_begun_is_forgotten(patch: Patch) -> None:
    patch.setattr(next_step, "unfinished", lambda _intent, _ledger: {})


def nothing_is_announced(patch: Patch) -> None:
    async def nothing(_store: MemoryStore, _intent: Intent) -> None: ...

    patch.setattr(MemoryStore, "intend", nothing)


def it_is_recorded_though_the_ledger_moved(patch: Patch) -> None:
    async def record(store: MemoryStore, _view: Any, rows: Sequence[Publication], taken: Mark | None, _ledger: Any) -> bool:
        await (store.record(rows) if taken is None else store.put_mark(taken))
        return True

    patch.setattr(machine, "record_unless_moved", record)


def tokens_do_not_tell_revisions_apart(patch: Patch) -> None:
    patch.setattr(encode, "write_token", lambda event_us, _revision: event_us * 1000)


def tokens_do_not_tell_event_times_apart(patch: Patch) -> None:
    patch.setattr(encode, "write_token", lambda _event_us, revision: revision)


def the_last_write_to_arrive_wins(patch: Patch) -> None:
    async def write(store: MemoryStore, entity: str, writes: Sequence[Write]) -> None:
        for one in writes:
            store._of(entity)[one.key, one.slot] = (one.token, one.value is None, one.value or b"")

    patch.setattr(MemoryStore, "write", write)


def a_publication_does_not_carry_earlier_attempts_along(patch: Patch) -> None:
    def readable(committed: Any, ledger: Sequence[Publication], publishing: Any) -> Any:
        exact = {(row.partition, row.attempt) for row in ledger} | {*publishing.items()}
        return {which: at for which, at in readable_from(committed, ledger, publishing).items() if which in exact}

    patch.setattr(next_step, "readable_from", readable)


def all_that_was_committed_is_taken_for_readable(patch: Patch) -> None:
    def readable(committed: Any, ledger: Any, publishing: Any) -> Any:
        return {**dict.fromkeys(committed, THIS), **readable_from(committed, ledger, publishing)}

    patch.setattr(next_step, "readable_from", readable)


def an_attempt_whose_changes_nobody_counted_is_taken_for_empty(patch: Patch) -> None:
    patch.setattr(next_step, "changing", lambda committed: [(e.partition, e.attempt) for e in committed if e.changed > 0])


def marks_are_taken_and_not_obeyed(patch: Patch) -> None:
    patch.setattr(Obeyed, "of", classmethod(lambda cls, _marks, _step=None: cls()))


def marks_are_obeyed_as_they_stood_before_the_step(patch: Patch) -> None:
    right = Obeyed.of
    patch.setattr(Obeyed, "of", classmethod(lambda _cls, marks, _step=None: right(marks)))


def marks_are_not_taken(patch: Patch) -> None:
    patch.setattr(next_step, "_first_due", lambda _marks: None)


def a_mark_that_was_begun_is_not_finished_first(patch: Patch) -> None:
    patch.setattr(next_step, "unfinished_step", lambda _intent, _marks: None)


def it_is_readable_since_now_whatever_the_clock_said_before(patch: Patch) -> None:
    right = next_step.recorded

    def recorded(known: Any, step: Any, *, now_us: int, **others: Any) -> Any:
        rows, taken = right(known, step, now_us=now_us, **others)
        return tuple(row.__class__(**{**_fields(row), "readable_at_us": now_us}) for row in rows), taken

    patch.setattr(publish, "recorded", recorded)


def a_day_is_published_at_its_oldest_attempt(patch: Patch) -> None:
    patch.setattr(next_step, "newest", lambda entries: {entry.partition: entry for entry in reversed(entries)})


def a_mark_put_again_forgets_what_was_done_for_it(patch: Patch) -> None:
    async def put(store: MemoryStore, mark: Mark) -> None:
        store._marks[mark.id] = mark

    patch.setattr(MemoryStore, "put_mark", put)


def the_lake_is_not_told(patch: Patch) -> None:
    def copy(lake: machine.Lake, _ledger: Any, marks: Sequence[Mark]) -> None:
        for mark in marks:
            lake.marks[mark.id] = joined(mark, lake.marks.get(mark.id))

    patch.setattr(machine.Lake, "copy", copy)


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


@pytest.mark.parametrize(
    "mistake",
    [
        what_was_begun_is_forgotten,
        nothing_is_announced,
        pytest.param(it_is_recorded_though_the_ledger_moved, marks=SLOW),
        tokens_do_not_tell_revisions_apart,
        tokens_do_not_tell_event_times_apart,
        the_last_write_to_arrive_wins,
        a_publication_does_not_carry_earlier_attempts_along,
        all_that_was_committed_is_taken_for_readable,
        an_attempt_whose_changes_nobody_counted_is_taken_for_empty,
        marks_are_taken_and_not_obeyed,
        marks_are_obeyed_as_they_stood_before_the_step,
        marks_are_not_taken,
        pytest.param(a_mark_that_was_begun_is_not_finished_first, marks=SLOW),
        it_is_readable_since_now_whatever_the_clock_said_before,
        a_day_is_published_at_its_oldest_attempt,
        a_mark_put_again_forgets_what_was_done_for_it,
        the_lake_is_not_told,
    ],
)
def test_it_is_told(mistake: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mistake(monkeypatch)
    with pytest.raises(BaseException):  # noqa: B017 - an assertion, several at once, or an error of ours
        run_state_machine_as_test(machine.AnyOrder, settings=FINDING)
