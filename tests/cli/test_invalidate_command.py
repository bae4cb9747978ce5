"""`penstock invalidate` as people type it, on a store in memory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import penstock
from penstock.cli import invalidate
from penstock.clock import FixedClock, to_micros
from penstock.config import Settings
from penstock.errors import InvalidationError
from penstock.offline.lake import feature_table
from penstock.offline.logs import copied_marks, log_attempts
from penstock.online.memory import MemoryStore
from penstock.online.store import OnlineStore
from penstock.publication.held_store import Connect
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import attempt_entry, view_of_orders

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
VIEW = view_of_orders(name="orders")


class Typed:
    """The command in a project whose view has one committed attempt, 7."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.online, self.clock = MemoryStore(), FixedClock(NOON)
        self.store = Store(Settings(root=folder), Project("shop", (VIEW,), ()), self.clock)
        log_attempts(self.store.lake, [attempt_entry(NOON.date(), table=feature_table(VIEW), attempt=7)])

        async def connect() -> OnlineStore:
            return self.online

        def connecting(_: Store) -> Connect:
            return connect

        monkeypatch.setattr(Store, "connect", connecting)
        monkeypatch.setattr(penstock, "open", lambda: self.store, raising=False)

    def __call__(self, *arguments: str) -> str:
        command = typer.Typer()
        command.command()(invalidate.run)
        done = CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(tmp_path, monkeypatch)


def test_a_mark_is_made_listed_and_undone(typed: Typed) -> None:
    assert typed() == "nothing is invalidated\n"
    said = typed("orders", "--attempt", "7", "--reason", "99 is a [sentinel]")
    (mark,) = copied_marks(typed.store.lake)
    assert (mark.attempt, mark.reason, mark.marked_at_us) == (7, "99 is a [sentinel]", to_micros(NOON))
    assert said.splitlines() == [
        f"{mark.id}: values of attempt 7 of orders@1 are not served any more",
        f"undo it with `penstock invalidate --lift {mark.id}`",
    ]
    listed = typed()
    for cell in (mark.id, "orders@1", "values of attempt 7", "2026-03-02 12:00:00", "in force", "99 is a [sentinel]"):
        assert cell in listed
    typed.clock.advance(timedelta(hours=1))
    assert typed("--lift", mark.id) == f"{mark.id} is lifted: what it covers of orders@1 is served again\n"
    assert "lifted" in typed()


def test_what_the_same_code_computes_is_held_back_where_that_is_asked_for(typed: Typed) -> None:
    said = typed("orders", "--everything", "--hold", "--reason", "unit")
    (mark,) = copied_marks(typed.store.lake)
    assert mark.holds_code is not None
    assert said.splitlines()[1] == "what the same code computes from now on is not published until it is mended"
    assert "all values and what the same code computes" in typed()


def test_times_are_instants_and_the_range_is_said(typed: Typed) -> None:
    typed("orders@1", "--since", "2026-03-02T00:00+01:00", "--until", "2026-03-02T06:00Z", "--reason", "r")
    (mark,) = copied_marks(typed.store.lake)
    assert (mark.since_us, mark.until_us) == (to_micros(NOON - timedelta(hours=13)), to_micros(NOON - timedelta(hours=6)))
    assert "all values from 2026-03-01 23:00:00 before 2026-03-02 06:00:00" in typed()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("order", "--everything", "--reason", "r"), "has no feature view 'order'; it has orders@1"),
        (("orders@2", "--everything", "--reason", "r"), "has no feature view 'orders@2'"),
        (("orders", "--reason", "r"), "say which values"),
        (("orders", "--everything", "--attempt", "7", "--reason", "r"), "say which values"),
        (("orders", "--everything"), "needs a reason"),
        (("orders", "--attempt", "8", "--reason", "r"), "no committed attempt 8; the newest are 7"),
        (("orders", "--since", "2026-03-02", "--reason", "r"), "no time: '2026-03-02' is naive"),
        (("orders", "--since", "yesterday", "--reason", "r"), "no time: "),
        (("orders", "--lift", "m"), "--lift undoes a mark"),
        (("--lift", "m"), "no invalidation mark 'm'; there are: none"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_marked(typed: Typed, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidationError) as refused:
        typed(*arguments)
    assert said in refused.value.message
    assert copied_marks(typed.store.lake) == []
