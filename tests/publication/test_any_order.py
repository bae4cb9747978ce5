"""Whatever happens, in whatever order: what is online is what the rule of time gives.

The steps of a publication and its decisions are the real ones, the codec and the tokens too, on the real `MemoryStore`. What stands
in is the lake, a list of rows and three logs, and Spark: `tests/by_definition.py`, to which the real evaluation is held.

A publication stands still between any two things it does, so that everything else may happen there: it is killed, others come, and
what it wrote arrives late or twice. One thing is left out, as the Dagster pool guards it (ADR 0012): while a publication has decided
what to do and has not announced it yet, no other goes on.
"""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from threading import Semaphore, Thread
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.as_of import Attempt, History, Readable, as_of
from penstock.as_of import Row as RuleRow
from penstock.clock import MICROSECOND, FixedClock, from_micros, to_micros
from penstock.errors import PublicationError
from penstock.offline.logs import AttemptEntry, passed
from penstock.online.codec import Stored, decode_value, encode_key
from penstock.online.ledger import Intent, Publication
from penstock.online.memory import MemoryStore
from penstock.online.store import Slot, Write
from penstock.point_in_time.history import mark_of
from penstock.publication.encode import Target, write_of
from penstock.publication.next_step import Known
from penstock.publication.publish import Published, bring_online, look_at_store, record_unless_moved
from penstock.publication.readable import Obeyed
from penstock.registry.marks import Mark, joined
from tests.by_definition import Row, values_by_definition
from tests.world import MONDAY, attempt_entry, view_of_orders

VIEW = view_of_orders()
TARGET, SLOT = Target.of(VIEW, 1), Slot(VIEW.name, VIEW.version, 1)
DAYS = [MONDAY.date() - timedelta(days=n) for n in (2, 1, 0)]
SOME_DAYS = st.sampled_from([DAYS, DAYS, DAYS, DAYS[:1], DAYS[1:2], DAYS[2:], DAYS[:2], DAYS[1:]])
TIMES = [datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for day in DAYS for hour in (6, 8)]
CUSTOMERS = ["ann", "bob"]
KEY = {name: encode_key(TARGET.join_keys, [name]) for name in CUSTOMERS}
ALWAYS, FOREVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
T = TypeVar("T")


def done_at_once(of_store: Coroutine[Any, Any, T]) -> T:
    """What a method of `MemoryStore` gives: it never waits."""
    try:
        of_store.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class Killed(BaseException):
    """The run ends here."""


class Run:
    """A publication that stands still before each thing it does until it is told to go on; only one moves at a time."""

    def __init__(self, publish: Callable[["Run"], Published]) -> None:
        self.begun = self.ended = self.killed = self.has_decided = False
        self.done: Published | None = None
        self.looked_at: tuple[list[Publication], list[Mark]] = ([], [])
        self._error: BaseException | None = None
        self._go, self._stands = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, args=(publish,), daemon=True)

    def pause(self) -> None:
        """In the run: stand still."""
        self._stands.release()
        self._go.acquire()
        if self.killed:
            raise Killed

    def go_on(self) -> None:
        """Up to where it stands still again."""
        if not self.begun:
            self.begun = True
            self._thread.start()
        else:
            self._go.release()
        self._stands.acquire()
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        self.killed = True
        if self.begun and not self.ended:
            self.go_on()

    def _run(self, publish: Callable[["Run"], Published]) -> None:
        try:
            self.done = publish(self)
        except Killed:
            pass
        except PublicationError as error:
            if "the ledger moved during each" not in error.message:  # others were faster, time and again
                self._error = error
        except BaseException as error:
            self._error = error
        self.ended, self.has_decided = True, False
        self._stands.release()


@dataclass
class Lake:
    """A feature table and the logs, as `offline/commit.py` and `offline/logs.py` keep them."""

    rows: list[Row] = field(default_factory=list)
    attempts: list[AttemptEntry] = field(default_factory=list)
    unlogged: list[AttemptEntry] = field(default_factory=list)
    ledger: dict[tuple[date, int], Publication] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)

    def commit(self, orders: Mapping[tuple[str, datetime], float], limits: Mapping[date, datetime], created: int) -> dict[date, int]:
        """Of some days, add what differs; how many rows, by day."""
        changed = dict.fromkeys(limits, 0)
        current: dict[tuple[str, datetime], Row] = {}
        for row in sorted(self.rows, key=lambda row: (row.created_time, row.row_digest)):
            current[row.customer, row.event_time] = row
        for which in sorted({*orders, *current}):
            (customer, at), row, amount = which, current.get(which), orders.get(which)
            if at.date() not in limits or (amount is None and (row is None or row.retracted)):
                continue
            if row is None or row.retracted or row.amount != amount:
                digest = b"" if amount is None else str(amount).encode()
                self.rows.append(Row(customer, at, from_micros(created), created, amount is None, digest, amount, at.date()))
                changed[at.date()] += 1
        return changed

    def copy(self, ledger: Sequence[Publication], marks: Sequence[Mark]) -> None:
        for row in ledger:
            self.ledger.setdefault((row.partition, row.attempt), row)
        for mark in marks:
            self.marks[mark.id] = joined(mark, self.marks.get(mark.id))


@dataclass
class InMemory:
    """`publish.Outside` without Spark and Cassandra, for one run."""

    machine: "AnyOrder"
    run: Run
    numbers: random.Random

    def look(self) -> Known:
        self.run.pause()
        lake, store = self.machine.lake, self.machine.store
        ledger, intent, marks = done_at_once(look_at_store(store, VIEW, 1, sorted(lake.marks.values())))
        self.run.has_decided, self.run.looked_at = True, (ledger, marks)
        return Known(VIEW, 1, ledger, intent, marks, [e for e in lake.attempts if passed(e)])

    def intend(self, intent: Intent) -> None:
        self.run.pause()
        done_at_once(self.machine.store.intend(intent))
        self.run.has_decided = False

    def write(self, readable: Mapping[tuple[date, int], int], obeyed: Obeyed) -> tuple[int, int, int]:
        values = values_by_definition(self.machine.lake.rows, readable, obeyed)
        rows = [{"customer": name, **value._asdict(), "_values": {"amount": value.amount}} for name, value in values.items()]
        writes = [write_of(TARGET, row) for row in sorted(rows, key=lambda row: str(row["customer"]))]
        self.numbers.shuffle(writes)
        self.machine.made(writes)
        for write in writes:
            self.run.pause()
            self.machine.arrives(write)
        gone = sum(write.value is None for write in writes)
        return len(writes) - gone, gone, 0

    def record(self, rows: Sequence[Publication], taken: Mark | None, ledger: Sequence[Publication]) -> bool:
        self.run.pause()
        self.run.has_decided = False
        return done_at_once(record_unless_moved(self.machine.store, VIEW, rows, taken, ledger))

    def copy(self, ledger: Sequence[Publication], marks: Sequence[Mark]) -> None:
        self.run.has_decided = False
        self.run.pause()
        self.machine.lake.copy(ledger, marks)


class AnyOrder(RuleBasedStateMachine):
    """Orders are placed, corrected and cancelled; days are computed, published and invalidated; runs end, stand still and go on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.store, self.lake = FixedClock(MONDAY + timedelta(hours=18)), MemoryStore(), Lake()
        self.orders: dict[tuple[str, datetime], float] = {}
        self.runs: list[Run] = []
        self.marked = 0
        done_at_once(self.store.prepare([VIEW.entity.name]))
        self.writes: list[Write] = []
        self.at_token: dict[tuple[bytes, int], bytes | None] = {}
        self.seen: dict[str, Stored | None] = dict.fromkeys(CUSTOMERS)
        self.ledger_seen: list[Publication] = []
        self.reads: list[tuple[datetime, str, tuple[int, int] | None]] = []
        self.judged: Any = None

    # What happens to the facts.

    @rule(
        placed=st.lists(st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(TIMES), st.sampled_from([1.0, 2.0])), min_size=1, max_size=3),
        computed=st.booleans(),
        ends_early=st.sampled_from([False, False, True]),
    )
    def order(self, placed: list[tuple[str, datetime, float]], computed: bool, ends_early: bool) -> None:
        """On time, late, or another amount for what was placed before."""
        self.orders.update({(customer, at): amount for customer, at, amount in placed})
        if computed:
            self.computed(DAYS, [], ends_early)

    @precondition(lambda self: self.orders)
    @rule(n=st.integers(0, 11), computed=st.booleans())
    def order_is_cancelled(self, n: int, computed: bool) -> None:
        del self.orders[sorted(self.orders)[n % len(self.orders)]]
        if computed:
            self.computed(DAYS, [], False)

    @rule(
        days=SOME_DAYS,
        refused=st.sampled_from([[], [], [], [], DAYS[2:], DAYS[:2]]),
        ends_early=st.sampled_from([False, False, False, True]),
    )
    def compute(self, days: list[date], refused: list[date], ends_early: bool) -> None:
        """Some days, of which some may be refused; it may end after its commit and before it is logged."""
        self.computed(days, refused, ends_early)

    def computed(self, days: list[date], refused: list[date], ends_early: bool) -> None:
        lake, now_us = self.lake, to_micros(self.clock.now())
        lake.attempts += lake.unlogged
        lake.unlogged = []
        created = max([now_us, *(row.attempt + 1 for row in lake.rows), *(entry.attempt + 1 for entry in lake.attempts)])
        good = {day: self.clock.now() for day in days if day not in refused}
        changed = lake.commit(self.orders, good, created)
        entries = [
            attempt_entry(day, attempt=created, state="passed" if day in good else "quarantined", changed=changed.get(day, 0))
            for day in days
        ]
        if not ends_early:
            lake.attempts += entries
        elif any(changed.values()):
            lake.unlogged = [msgspec.structs.replace(entry, changed=-1) for entry in entries if passed(entry)]

    @rule(hours=st.sampled_from([0, 0, 1]), seconds=st.integers(1, 3))
    def time_passes(self, hours: int, seconds: int) -> None:
        self.clock.advance(timedelta(hours=hours, seconds=seconds))

    # What happens to readers.

    @precondition(lambda self: any(map(passed, self.lake.attempts)) and self.marked < 4)
    @rule(
        attempt=st.none() | st.integers(0, 9),
        since=st.none() | st.sampled_from(DAYS),
        until=st.none() | st.sampled_from(DAYS),
        ends_early=st.sampled_from([False, False, True]),
    )
    def invalidate(self, attempt: int | None, since: date | None, until: date | None, ends_early: bool) -> None:
        """Rows of one of the newest attempts or of all; it may end before the lake knows."""
        committed = sorted({entry.attempt for entry in self.lake.attempts if passed(entry)}, reverse=True)

        def seven(day: date | None) -> int | None:
            return None if day is None else to_micros(datetime(day.year, day.month, day.day, 7, tzinfo=UTC))

        mark = Mark(
            view=VIEW.name,
            version=VIEW.version,
            marked_at_us=to_micros(self.clock.now()),
            id=f"mark {self.marked}",
            attempt=None if attempt is None else committed[attempt % len(committed)],
            since_us=seven(since),
            until_us=seven(until),
            reason="odd",
        )
        self.marked += 1
        self.keep(mark, ends_early)

    @precondition(lambda self: done_at_once(self.store.marks()))
    @rule(n=st.integers(0, 3), ends_early=st.booleans())
    def lift(self, n: int, ends_early: bool) -> None:
        marks = [mark for mark in done_at_once(self.store.marks()) if mark.lifted_at_us is None or n == 0]
        if marks:
            mark = marks[n % len(marks)]
            at_us = max(to_micros(self.clock.now()), mark.marked_at_us + 1)
            self.keep(msgspec.structs.replace(mark, lifted_at_us=at_us), ends_early)

    def keep(self, mark: Mark, ends_early: bool) -> None:
        done_at_once(self.store.put_mark(mark))
        if not ends_early:
            self.lake.copy([], [one for one in done_at_once(self.store.marks()) if one.id == mark.id])

    @rule()
    def read(self) -> None:
        """What readers get, to be compared with what training will say they got."""
        if self.under_way() is not None:
            return
        self.clock.advance(timedelta(milliseconds=1))  # later than whatever stood still with the Clock
        now_us, marks = to_micros(self.clock.now()), done_at_once(self.store.marks())
        blind = [mark for mark in marks if mark.marked_at_us <= now_us and (mark.lifted_at_us is None or now_us < mark.lifted_at_us)]
        for customer, stored in self.stored().items():
            hidden = stored is None or any(mark.covers(stored.event_time_us, stored.attempt) for mark in blind)
            answer = None if hidden or stored is None else (stored.event_time_us, stored.attempt)
            self.reads.append((self.clock.now(), customer, answer))
        self.clock.advance(timedelta(milliseconds=1))

    # Publications.

    @precondition(lambda self: len(self.runs) < 2 and not any(run.has_decided for run in self.runs))
    @rule(days=SOME_DAYS, steps=st.none() | st.integers(2, 6), seed=st.integers(0, 3), killed=st.booleans())
    def publish(self, days: list[date], steps: int | None, seed: int, killed: bool) -> None:
        """To its end, or up to some point where it stands still or is killed."""

        def publication(run: Run) -> Published:
            return bring_online(InMemory(self, run, random.Random(seed)), days, self.clock, f"run {seed}")

        run = Run(publication)
        self.runs.append(run)
        self.go_on(run, steps, killed)

    @precondition(lambda self: self.runs)
    @rule(n=st.integers(0, 1), steps=st.none() | st.integers(2, 6), killed=st.booleans())
    def a_publication_goes_on(self, n: int, steps: int | None, killed: bool) -> None:
        run = self.runs[n % len(self.runs)]
        if not any(other.has_decided for other in self.runs if other is not run):
            self.go_on(run, steps, killed)

    def go_on(self, run: Run, steps: int | None, killed: bool) -> None:
        while not run.ended and (steps is None or steps > 0):
            run.go_on()
            self.what_is_online_is_what_the_rule_gives()
            steps = None if steps is None else steps - 1
        if run.done is not None:
            self.require_is_copied(*run.looked_at)
        if killed:
            run.kill()
        self.runs = [run for run in self.runs if not run.ended]

    @precondition(lambda self: not any(run.has_decided for run in self.runs))
    @rule(
        steps=st.integers(3, 6),
        seed=st.integers(0, 3),
        then=st.sampled_from(["nothing", "orders change", "orders are cancelled", "marks are lifted"]),
        days=SOME_DAYS,
    )
    def a_publication_is_killed_and_another_follows(self, steps: int, seed: int, then: str, days: list[date]) -> None:
        """With nothing between them, or what makes the second evaluate something else."""
        self.publish(DAYS, steps, seed, True)
        if then == "orders change":
            self.orders = {which: 3.0 - amount for which, amount in self.orders.items()}
        elif then == "orders are cancelled":
            self.orders = {}
        elif then == "marks are lifted":
            for _ in range(self.marked):
                self.lift(1, False)
        self.computed(DAYS, [], False)
        self.publish(days, None, seed, False)

    @precondition(lambda self: self.writes)
    @rule(n=st.integers(0, 40))
    def a_write_arrives_late_or_again(self, n: int) -> None:
        self.arrives(self.writes[-1 - n % len(self.writes)])

    def made(self, writes: Sequence[Write]) -> None:
        """A publication is about to write these."""
        self.writes += writes
        for write in writes:
            assert self.at_token.setdefault((write.key, write.token), write.value) == write.value, "another value at the same token"

    def arrives(self, write: Write) -> None:
        done_at_once(self.store.write(VIEW.entity.name, [write]))

    # What must hold.

    def stored(self) -> dict[str, Stored | None]:
        found = done_at_once(self.store.read(VIEW.entity.name, list(KEY.values()), [SLOT]))
        return {name: None if value is None else decode_value(value) for name, (value,) in zip(KEY, found, strict=True)}

    def ledger(self) -> list[Publication]:
        return done_at_once(self.store.publications(VIEW.name, VIEW.version))

    def under_way(self) -> Intent | None:
        """What is announced and not recorded."""
        intent, marks = done_at_once(self.store.intent(VIEW.name, 1, 1)), {mark.id: mark for mark in done_at_once(self.store.marks())}
        if intent is None:
            return None
        if intent.mark is not None:
            mark, step = marks[intent.mark[0]], intent.mark[1]
            return intent if (mark.excluded_at_us if step == "exclude" else mark.restored_at_us) is None else None
        return intent if {*intent.attempts.items()} - {(row.partition, row.attempt) for row in self.ledger()} else None

    def by_rule(self, intent: Intent | None) -> dict[str, tuple[int, int] | None]:
        """Customer → event time and attempt of what is to be online, once what is announced is done."""
        marks, ledger = done_at_once(self.store.marks()), [Readable(r.partition, r.attempt, ALWAYS) for r in self.ledger()]
        if intent is not None and intent.mark is not None:
            named, step = intent.mark
            at = {"excluded_at_us" if step == "exclude" else "restored_at_us": to_micros(self.clock.now())}
            marks = [msgspec.structs.replace(mark, **at) if mark.id == named else mark for mark in marks]
        elif intent is not None:
            ledger += [Readable(day, attempt, ALWAYS) for day, attempt in intent.attempts.items()]
        # What is online is not what readers get: a mark in force is obeyed where values are read.
        marks = [msgspec.structs.replace(mark, lifted_at_us=mark.marked_at_us) for mark in marks]
        return {name: self.at(name, FOREVER, ledger, marks) for name in CUSTOMERS}

    def at(self, customer: str, t: datetime, ledger: Sequence[Readable], marks: Sequence[Mark]) -> tuple[int, int] | None:
        committed = tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in self.lake.attempts if passed(e))
        history = History(committed, tuple(ledger), live_since=ALWAYS, marks=tuple(map(mark_of, marks)))
        rows = [rule_row(row) for row in self.lake.rows if row.customer == customer]
        row = as_of(rows, t, ttl=None, mode="observed", history=history)
        return None if row is None else (to_micros(row.event_time), row.attempt)

    @invariant()
    def what_is_online_is_what_the_rule_gives(self) -> None:
        """Or what it will give once what is under way is done."""
        intent, ledger, marks = self.under_way(), self.ledger(), done_at_once(self.store.marks())
        state = (len(self.lake.rows), len(self.lake.attempts), intent, ledger, marks)
        if self.judged is None or self.judged[0] != state:
            self.judged = (state, [self.by_rule(None), *([] if intent is None else [self.by_rule(intent)])])
        stored = self.stored()
        for name, value in stored.items():
            found = None if value is None else (value.event_time_us, value.attempt)
            assert found in [given[name] for given in self.judged[1]], f"{name}: {found} of {self.judged[1]}, under way: {intent}"
            self.require_no_older(name, value, intent, marks)
        self.seen = stored
        self.require_ledger_goes_on(ledger)

    def require_is_copied(self, ledger: Sequence[Publication], marks: Sequence[Mark]) -> None:
        """What the store held when a publication that has ended looked at it last; what came after is for the next one to copy."""
        assert {(row.partition, row.attempt) for row in ledger} <= {*self.lake.ledger}
        assert all(joined(mark, self.lake.marks.get(mark.id)) == self.lake.marks.get(mark.id) for mark in marks)

    def require_no_older(self, name: str, value: Stored | None, intent: Intent | None, marks: Sequence[Mark]) -> None:
        """Than what was seen before, but where that was retracted, corrected or invalidated."""
        before = self.seen[name]
        if before is None or (value is not None and (value.event_time_us, value.attempt) >= (before.event_time_us, before.attempt)):
            return
        about = None if intent is None or intent.mark is None else intent.mark[0]
        taken_back = any(m.covers(before.event_time_us, before.attempt) and (m.is_excluded or m.id == about) for m in marks)
        readable = {(row.partition, row.attempt) for row in self.ledger()} | {*(intent.attempts.items() if intent else [])}
        replaced = any(
            (row.customer, to_micros(row.event_time)) == (name, before.event_time_us)
            and row.attempt > before.attempt
            and any(day == row.event_date and attempt >= row.attempt for day, attempt in readable)
            for row in self.lake.rows
        )
        assert taken_back or replaced, f"{name}: {value} after {before}"

    def require_ledger_goes_on(self, ledger: list[Publication]) -> None:
        """Rows stay as they are, and those that are new are of greater attempts and readable later than all before."""
        before, news = self.ledger_seen, [row for row in ledger if row not in self.ledger_seen]
        assert all(row in ledger for row in before), "a ledger row is gone, or was changed"
        assert all(row.readable_at_us > one.readable_at_us for row in news for one in before)
        assert all(row.attempt > one.attempt for row in news for one in before if row.partition == one.partition)
        self.ledger_seen = ledger

    def teardown(self) -> None:
        """Everything is drained: what stands still goes on or is killed, what was written arrives once more, what is due is published."""
        for run in self.runs[1:]:
            run.kill()
        for run in self.runs[:1]:
            self.go_on(run, None, killed=True)
        self.lake.attempts += self.lake.unlogged
        self.lake.unlogged = []
        for write in self.writes:
            self.arrives(write)
        self.runs = []
        self.publish_all()
        assert self.publish_all() == Published((), 0, 0, 0)
        for write in self.writes:
            self.arrives(write)
        assert self.under_way() is None
        self.what_is_online_is_what_the_rule_gives()
        committed = {entry.partition: entry.attempt for entry in self.lake.attempts if passed(entry)}
        assert {row.partition: row.attempt for row in self.ledger()} == committed  # both by ascending attempt
        assert not any(mark.due for mark in done_at_once(self.store.marks()))
        assert {(row.partition, row.attempt) for row in self.ledger()} <= {*self.lake.ledger}
        assert sorted(self.lake.ledger.values()) == self.ledger()
        assert sorted(self.lake.marks.values()) == done_at_once(self.store.marks())
        self.training_sees_what_readers_got()

    def publish_all(self) -> Published:
        run = Run(lambda run: bring_online(InMemory(self, run, random.Random(0)), DAYS, self.clock, "all"))
        self.go_on(run, None, killed=False)
        assert run.done is not None
        return run.done

    def training_sees_what_readers_got(self) -> None:
        ledger = [Readable(row.partition, row.attempt, from_micros(row.readable_at_us)) for row in self.lake.ledger.values()]
        for t, customer, answer in self.reads:
            assert self.at(customer, t, ledger, list(self.lake.marks.values())) == answer, (t, customer)


def rule_row(row: Row) -> RuleRow:
    available = row.event_time + MICROSECOND
    return RuleRow(row.event_time, available, row.created_time, row.attempt, row.event_date, row.row_digest.hex(), row.retracted)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=40)
