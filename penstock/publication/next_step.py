"""What a publication of a view does next, decided from what is known and nothing else; `publish.py` does it.

What was begun and not recorded comes first, then what invalidation marks ask for, then the days asked for
(ADR 0012, 0023). Two who know the same decide the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from penstock.clock import to_micros
from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.offline.logs import AttemptEntry, newest
from penstock.online.ledger import Intent, Publication, latest, unfinished, unfinished_step
from penstock.publication.due import publishable
from penstock.publication.readable import Obeyed, changing, readable_from
from penstock.registry.marks import Mark, Step


@dataclass(frozen=True)
class Known:
    """What is known of one fill of a view version.

    Args:
        view, generation: the view version, and which fill of it.
        ledger: its rows in the store, those of other fills included.
        intent: the newest one of the fill.
        marks: the view version's invalidation marks, in the order in which they were made.
        committed: every attempt that passed.
    """

    view: FeatureView
    generation: int
    ledger: Sequence[Publication]
    intent: Intent | None
    marks: Sequence[Mark]
    committed: Sequence[AttemptEntry]

    @property
    def online(self) -> list[Publication]:
        """The ledger of this fill."""
        return [row for row in self.ledger if row.generation == self.generation]


@dataclass(frozen=True)
class NextStep:
    """Attempts to make readable, or what to do about an invalidation mark; one of the two.

    Args:
        publishing: day → the attempt to make readable, with those before it.
        taking: the mark and what is to be done about it.
        changes_values: whether any value may change; if not, there is nothing to write.
        readable, obeyed: what values are evaluated under, as `evaluate.values_to_write` takes it.
    """

    publishing: Mapping[date, int]
    taking: tuple[Mark, Step] | None
    changes_values: bool
    readable: Mapping[tuple[date, int], int]
    obeyed: Obeyed

    def intent(self, known: Known) -> Intent:
        """As it is announced."""
        mark = None if self.taking is None else (self.taking[0].id, self.taking[1])
        view = known.view
        return Intent(view=view.name, version=view.version, generation=known.generation, attempts=dict(self.publishing), mark=mark)


def next_step(known: Known, days: Collection[date]) -> NextStep | None:
    """What to do next so that some days are online, or None: nothing.

    Raises:
        PublicationError: the store knows attempts that the lake does not.
    """
    online = known.online
    interrupted = unfinished(known.intent, online)
    require_this_lake(known.view, [*((row.partition, row.attempt) for row in online), *interrupted.items()], known.committed)
    # What was begun is finished first, then what must not be online any more is taken back.
    taking = None if interrupted else unfinished_step(known.intent, known.marks) or _first_due(known.marks)
    publishing = {} if taking is not None else interrupted or _due(known, days)
    if not publishing and taking is None:
        return None
    with_rows = changing(known.committed)
    reached = {day: row.attempt for day, row in latest(online).items()}
    return NextStep(
        publishing,
        taking,
        taking is not None or any(reached.get(day, 0) < attempt <= publishing.get(day, 0) for day, attempt in with_rows),
        readable_from(with_rows, online, publishing),
        Obeyed.of(known.marks, taking),
    )


def recorded(known: Known, step: NextStep, *, now_us: int, run_id: str, keys: int) -> tuple[tuple[Publication, ...], Mark | None]:
    """What to record once a step is done: ledger rows, or the mark with its step taken.

    Args:
        known, step: what was decided, and from what.
        now_us: the time. All is recorded with one instant, later than any before it, whatever the Clock says: publications of
            a view have an order.
        run_id: recorded.
        keys: how many keys were written or deleted.
    """
    before = [*(row.readable_at_us for row in known.online), *(at for _, at in Obeyed.of(known.marks).moments)]
    before += [mark.marked_at_us for mark in known.marks]
    at_us = max([now_us, *step.publishing.values(), *(at + 1 for at in before)])
    if step.taking is not None:
        mark, what = step.taking
        return (), msgspec.structs.replace(mark, **{"excluded_at_us" if what == "exclude" else "restored_at_us": at_us})
    complete_until = {(entry.partition, entry.attempt): entry.complete_until for entry in known.committed}
    rows = tuple(
        Publication(
            view=known.view.name,
            version=known.view.version,
            generation=known.generation,
            partition=day,
            attempt=attempt,
            complete_until_us=to_micros(complete_until[day, attempt]),
            readable_at_us=at_us,
            run_id=run_id,
            keys=keys,
        )
        for day, attempt in sorted(step.publishing.items())
    )
    return rows, None


def _first_due(marks: Iterable[Mark]) -> tuple[Mark, Step] | None:
    return next(((mark, step) for mark in marks if (step := mark.due) is not None), None)


def _due(known: Known, days: Iterable[date]) -> dict[date, int]:
    """Of some days, the newest attempt, where it is not online."""
    online, committed = latest(known.online), newest(publishable(known.committed, known.marks))
    return {
        day: committed[day].attempt
        for day in sorted(days)
        if day in committed and (day not in online or committed[day].attempt > online[day].attempt)
    }


def require_this_lake(view: FeatureView, online: Iterable[tuple[date, int]], committed: Sequence[AttemptEntry]) -> None:
    """Refuse a store that holds what another lake published.

    Raises:
        PublicationError: of these days and attempts that are online some are not committed here.
    """
    foreign = sorted({*online} - {(entry.partition, entry.attempt) for entry in committed})
    if foreign:
        raise PublicationError(
            f"{view.ref}: the store holds {len(foreign)} publication(s) of attempts that this lake does not know, e.g. of"
            f" {foreign[0][0]}: it belongs to another lake, and their values would be mixed",
            hint="set cassandra.keyspace to one of its own (an embedded node: delete its data folder), or bring that lake back",
        )
