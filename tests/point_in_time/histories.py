"""Generated histories and spines, and what the rule says of them.

Times are few and coarse (6 h steps, ttl a multiple of them), so that boundaries, ties, corrections and
retractions are hit all the time. Keys are crafted to collide if they were ever concatenated.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import get_args

from penstock.as_of import Attempt, History, Mark, Mode, Readable, Row, as_of

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(hours=6)
MODES: tuple[Mode, ...] = get_args(Mode)
KEYS: dict[str, tuple[dict[str, str], list[tuple[object, ...]]]] = {
    "composite": (
        {"a": "string", "b": "string"},
        [
            ("1", "23"),
            ("12", "3"),
            ("", "123"),
            ("123", ""),
            ("1|2", "3"),
            ("1", "2|3"),
            ("1,", "23"),
            ("1", ",23"),
            ("A", "a"),
            ("a", "A"),
            *(("x", f"{n}") for n in range(12)),
        ],
    ),
    "mixed": (
        {"a": "string", "b": "int64"},
        [("1", 23), ("12", 3), ("", 123), ("x", -1), ("x-", 1), ("", 0), ("é", 1), ("e\u0301", 1), *(("x", n) for n in range(14))],
    ),
    "int": ({"a": "int64"}, [(0,), (1,), (-1,), (2**62,), (-(2**62),), (2**53,), (2**53 + 1,), *((n,) for n in range(7, 22))]),
}


@dataclass
class Generated:
    rows: dict[tuple[object, ...], list[Row]]
    spine: list[tuple[tuple[object, ...], datetime | None]]
    history: History
    ttl: timedelta | None


def generate(random: Random, kind: str, ttl: timedelta | None) -> Generated:
    def at(n: int) -> datetime:
        return START + n * STEP

    attempts = [
        Attempt(partition, number, at(4 * day + random.randint(0, 5)))
        for day, partition in enumerate(at(n).date() for n in (0, 4, 8))
        for number in sorted(random.sample(range(1, 13), random.randint(1, 4)))
    ]
    ledger = [Readable(a.partition, a.attempt, at(random.randint(0, 20))) for a in attempts if random.random() < 0.8]
    live_since = random.choice([None, START, at(random.choice(attempts).attempt), at(random.choice(attempts).attempt)])
    by_day: dict[date, list[int]] = {}
    for attempt in attempts:
        by_day.setdefault(attempt.partition, []).append(attempt.attempt)
    marks = [some_mark(random, at, [*attempts, None]) for _ in range(random.choice([1, 2, 3, 4]))]
    rows: dict[tuple[object, ...], list[Row]] = {}
    for key in KEYS[kind][1]:
        own = rows.setdefault(key, [])
        for n in range(random.choice([0, 1, 16, 24])):
            event = at(random.randint(0, 11))
            attempt = random.choice([*by_day[event.date()], 99])  # 99 was never committed
            own.append(
                Row(
                    event_time=event,
                    available_time=event + random.choice([timedelta(0), timedelta(0), STEP, 3 * STEP]),
                    created_time=at(attempt),  # one created time per attempt, as commits have
                    attempt=attempt,
                    partition=event.date(),
                    digest=f"{n:02}",  # ties of created time are broken by it
                    retracted=random.random() < 0.2,
                    values=(random.choice([0, None, n, n]), random.choice(["", None, f"{n}", f"{n}"])),
                )
            )
    moments = [] if live_since is None else [live_since, live_since]
    moments += [t for mark in marks for t in (mark.marked_at, mark.lifted_at, mark.excluded_at, mark.restored_at) if t is not None]
    spine: list[tuple[tuple[object, ...], datetime | None]] = [
        (key, t + random.choice([timedelta(0), timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)]))
        for key in KEYS[kind][1]
        for t in [*moments, *(random.choice(ledger).readable_at for _ in ledger[:3]), *(at(random.randint(-1, 15)) for _ in range(9))]
    ]
    spine += [spine[0], spine[0], (tuple(None for _ in KEYS[kind][0]), START), (spine[0][0], None)]  # duplicates and nulls
    return Generated(rows, spine, History(tuple(attempts), tuple(ledger), live_since, tuple(marks)), ttl)


def some_mark(random: Random, at: Callable[[int], datetime], attempts: Sequence[Attempt | None]) -> Mark:
    """A mark early enough to matter, in one of the states that marks go through."""
    marked = random.randint(5, 13)
    lifted = marked + random.randint(1, 3) if random.random() < 0.8 else None
    excluded = marked + random.randint(1, 3) if random.random() < 0.6 else None
    restored = None if excluded is None or lifted is None or random.random() < 0.2 else max(excluded, lifted) + random.randint(1, 3)
    attempt, since, length = random.choice([None, None, random.choice(attempts)]), random.randint(2, 8), random.randint(1, 4)
    bounded = attempt is None and random.random() < 0.9
    return Mark(
        marked_at=at(marked),
        lifted_at=None if lifted is None else at(lifted),
        attempt=None if attempt is None else attempt.attempt,
        since=at(since) if bounded else None,
        until=at(since + length) if bounded and random.random() < 0.95 else None,
        excluded_at=None if excluded is None else at(excluded),
        restored_at=None if restored is None else at(restored),
    )


def answers_by_rule(case: Generated, mode: Mode, rule: Callable[..., Row | None] = as_of) -> Counter[tuple[object, ...]]:
    answers: Counter[tuple[object, ...]] = Counter()
    for key, t in case.spine:
        row = None if t is None else rule(case.rows.get(key, []), t, ttl=case.ttl, mode=mode, history=case.history)
        answers[(*key, t, *((None, None) if row is None else row.values))] += 1
    return answers
