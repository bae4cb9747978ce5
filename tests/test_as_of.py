"""The rule of time at its boundaries."""

from datetime import UTC, datetime, timedelta

from penstock.as_of import Attempt, History, Mark, Mode, Readable, Row, as_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, MICRO = timedelta(hours=1), timedelta(microseconds=1)
DAY = NOON.date()


def row(
    event: datetime, value: object = None, *, attempt: int = 1, created: datetime = NOON, late: timedelta = 0 * HOUR, **more: object
) -> Row:
    return Row(event, event + late, created, attempt, DAY, values=(value,), **more)  # type: ignore[arg-type]


ONE = History(attempts=(Attempt(DAY, 1, NOON),))


def test_a_value_exactly_as_old_as_its_ttl_is_used_and_one_microsecond_more_is_not() -> None:
    rows = [row(NOON)]
    assert as_of(rows, NOON + HOUR, ttl=HOUR, mode="event", history=ONE) is rows[0]  # 13:00 - 12:00 = 1 h
    assert as_of(rows, NOON + HOUR + MICRO, ttl=HOUR, mode="event", history=ONE) is None


def test_a_value_of_this_very_microsecond_counts_and_one_of_the_next_does_not() -> None:
    assert as_of([row(NOON)], NOON, ttl=None, mode="event", history=ONE) is not None
    assert as_of([row(NOON + MICRO)], NOON, ttl=None, mode="event", history=ONE) is None


def test_a_value_is_not_known_before_it_was_available() -> None:
    rows = [row(NOON, late=HOUR)]
    assert as_of(rows, NOON + HOUR - MICRO, ttl=None, mode="assumed", history=ONE) is None
    assert as_of(rows, NOON + HOUR, ttl=None, mode="assumed", history=ONE) is rows[0]
    assert as_of(rows, NOON, ttl=None, mode="event", history=ONE) is rows[0]


def test_the_later_created_row_of_one_event_time_wins_then_the_greater_digest() -> None:
    old, new = row(NOON, 1), row(NOON, 2, created=NOON + MICRO)
    assert as_of([new, old], NOON, ttl=None, mode="event", history=ONE) is new
    a, b = row(NOON, 1, digest="a"), row(NOON, 2, digest="b")
    assert as_of([b, a], NOON, ttl=None, mode="event", history=ONE) is b


def test_a_retraction_lets_the_event_time_before_it_count() -> None:
    older, newer = row(NOON - HOUR, 1), row(NOON, 2)
    gone = row(NOON, created=NOON + MICRO, retracted=True)
    assert as_of([older, newer, gone], NOON, ttl=None, mode="event", history=ONE) is older


def test_a_row_whose_attempt_was_never_logged_does_not_exist() -> None:
    assert as_of([row(NOON, attempt=7)], NOON, ttl=None, mode="event", history=ONE) is None


def test_observed_follows_the_ledger_and_a_later_publication_carries_earlier_rows() -> None:
    attempts = (Attempt(DAY, 1, NOON), Attempt(DAY, 2, NOON))
    history = History(attempts, (Readable(DAY, 2, NOON + HOUR),), live_since=NOON)
    rows = [row(NOON, attempt=1)]
    assert as_of(rows, NOON + HOUR - MICRO, ttl=None, mode="observed", history=history) is None
    assert as_of(rows, NOON + HOUR, ttl=None, mode="observed", history=history) is rows[0]
    later = [row(NOON, attempt=2)]
    only_first = History(attempts, (Readable(DAY, 1, NOON + HOUR),), live_since=NOON)
    assert as_of(later, NOON + 9 * HOUR, ttl=None, mode="observed", history=only_first) is None


def test_before_it_was_live_observed_is_as_assumed() -> None:
    history = History(ONE.attempts, (), live_since=NOON + HOUR)
    rows = [row(NOON)]
    assert as_of(rows, NOON + HOUR - MICRO, ttl=None, mode="observed", history=history) is rows[0]
    assert as_of(rows, NOON + HOUR, ttl=None, mode="observed", history=history) is None


def test_a_correction_is_not_known_before_it_was_created_unless_restated() -> None:
    history = History((Attempt(DAY, 1, NOON), Attempt(DAY, 2, NOON)), (), live_since=NOON)
    old, fixed = row(NOON, 1), row(NOON, 2, attempt=2, created=NOON + HOUR)
    assert as_of([old, fixed], NOON + HOUR - MICRO, ttl=None, mode="assumed", history=history) is old
    assert as_of([old, fixed], NOON + HOUR, ttl=None, mode="assumed", history=history) is fixed
    assert as_of([old, fixed], NOON, ttl=None, mode="restated", history=history) is fixed
    before_live = History(history.attempts, (), live_since=NOON + HOUR + MICRO)
    assert as_of([old, fixed], NOON, ttl=None, mode="assumed", history=before_live) is fixed
    beyond = History((Attempt(DAY, 1, NOON - MICRO), Attempt(DAY, 2, NOON)), (), live_since=NOON)
    assert as_of([fixed], NOON, ttl=None, mode="assumed", history=beyond) is fixed  # attempt 1 had not got that far: no correction


def test_a_mark_stops_the_answer_at_once_and_a_publication_brings_the_one_before_until_another_restores_it() -> None:
    history = History(
        (Attempt(DAY, 1, NOON), Attempt(DAY, 2, NOON)),
        (Readable(DAY, 1, NOON), Readable(DAY, 2, NOON + HOUR)),
        live_since=NOON,
        marks=(Mark(NOON + 2 * HOUR, NOON + 4 * HOUR, attempt=2, excluded_at=NOON + 3 * HOUR, restored_at=NOON + 5 * HOUR),),
    )
    good, bad = row(NOON - HOUR, 1), row(NOON, 2, attempt=2, created=NOON + MICRO)

    def at(hours: int, mode: Mode = "observed") -> Row | None:
        return as_of([good, bad], NOON + hours * HOUR, ttl=None, mode=mode, history=history)

    assert [at(n) for n in range(6)] == [good, bad, None, good, good, bad]
    assert [at(n, "restated") for n in range(6)] == [bad] * 6


def test_a_mark_covers_nothing_that_is_created_after_it() -> None:
    mark = Mark(NOON, attempt=None, since=NOON - HOUR, until=NOON)
    assert mark.covers(row(NOON - HOUR, created=NOON))
    assert not mark.covers(row(NOON - HOUR, created=NOON + MICRO))
    assert not mark.covers(row(NOON - HOUR - MICRO, created=NOON))
    assert not mark.covers(row(NOON, created=NOON))
    assert not Mark(NOON, attempt=2).covers(row(NOON, attempt=1, created=NOON))
