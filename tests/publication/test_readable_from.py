"""Since when each attempt's rows are readable: with its own publication or a later one of its partition."""

from datetime import date, timedelta

from penstock.online.ledger import Publication
from penstock.publication.readable import THIS, readable_from

MON = date(2026, 3, 2)
TUE = MON + timedelta(days=1)


def published(day: date, attempt: int, at: int) -> Publication:
    return Publication(
        view="v", version=1, generation=1, partition=day, attempt=attempt, complete_until_us=0, readable_at_us=at, run_id="", keys=0
    )


def test_a_publication_carries_the_attempts_before_it_along() -> None:
    committed = [(MON, 1), (MON, 2), (MON, 3), (TUE, 4)]
    ledger = [published(MON, 2, at=10), published(MON, 3, at=20)]
    assert readable_from(committed, ledger, {}) == {(MON, 1): 10, (MON, 2): 10, (MON, 3): 20}


def test_what_is_being_published_is_readable_after_everything_and_the_rest_is_not() -> None:
    committed = [(MON, 1), (MON, 2), (TUE, 3), (TUE, 4)]
    assert readable_from(committed, [published(MON, 1, at=10)], {TUE: 3}) == {(MON, 1): 10, (TUE, 3): THIS}
