"""Invalidate rows of a view, and undo it: a mark in the online store, at once, and its copy in the lake."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import msgspec

from penstock.clock import Clock, require_utc, to_micros
from penstock.contract.view import FeatureView
from penstock.errors import InvalidationError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, copy_marks, passed
from penstock.online.store import OnlineStore
from penstock.publication.held_store import Connect, with_store
from penstock.registry.marks import Mark

_NAMED = 5


@dataclass(frozen=True)
class Scope:
    """Which rows of a view: of one attempt, or of all (None), with event times from `since` on and before `until`; None: no such bound."""

    attempt: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def invalidate(lake: Lake, view: FeatureView, scope: Scope, *, reason: str, connect: Connect, clock: Clock, hold: bool = False) -> Mark:
    """Mark rows of a view as not to be read. Gateways obey within a second or two; the next publication takes the rows back.

    What is computed later is not covered: a mended attempt is served without undoing anything. Where the code is what must be mended,
    `hold` keeps what it computes until then from being published: the code of the attempt in question, or else of the newest.

    Raises:
        InvalidationError: no such attempt of the view is committed, the range is empty, or there is no reason.
        StoreUnavailable: the store does not answer; nothing was marked.
    """
    since = None if scope.since is None else to_micros(require_utc(scope.since, "since"))
    until = None if scope.until is None else to_micros(require_utc(scope.until, "until"))
    if since is not None and until is not None and since >= until:
        raise InvalidationError(f"since {scope.since} is not before until {scope.until}: nothing is between them")
    if not reason.strip():
        raise InvalidationError("an invalidation needs a reason", hint="say in a few words what is wrong with these values")
    code_of = {entry.attempt: entry.code for entry in attempts(lake, feature_table(view)) if passed(entry)}
    committed = sorted(code_of, reverse=True)
    if scope.attempt is not None:
        _require_committed(view, scope.attempt, committed)
    if hold and not committed:
        raise InvalidationError(f"{view.ref} has no committed attempt whose code could be held back", hint="leave out the hold")
    # What is committed is covered even if a machine whose clock is ahead computed it.
    now_us = max([to_micros(clock.now()), *committed[:1]])
    named = sha256(repr((view.name, view.version, now_us, scope)).encode()).hexdigest()[:8]
    mark = Mark(
        view=view.name,
        version=view.version,
        marked_at_us=now_us,
        id=named,
        attempt=scope.attempt,
        since_us=since,
        until_us=until,
        reason=reason.strip(),
        holds_code=code_of[scope.attempt or committed[0]] if hold else None,
    )
    return _keep(lake, mark, connect)


def lift(lake: Lake, mark_id: str, *, connect: Connect, clock: Clock) -> Mark:
    """Undo an invalidation: what it covers is served again, as soon as it is online. Doing it twice changes nothing.

    Raises:
        InvalidationError: there is no such mark.
        StoreUnavailable: the store does not answer; nothing was changed.
    """
    marks = with_store(connect, lambda store: store.marks())
    mark = next((mark for mark in marks if mark.id == mark_id), None)
    if mark is None:
        raise InvalidationError(f"there is no invalidation mark '{mark_id}'; there are: {_some(mark.id for mark in marks)}")
    at_us = max(to_micros(clock.now()), mark.marked_at_us + 1)
    return _keep(lake, msgspec.structs.replace(mark, lifted_at_us=at_us), connect)


def _keep(lake: Lake, mark: Mark, connect: Connect) -> Mark:
    async def keep(store: OnlineStore) -> list[Mark]:
        await store.put_mark(mark)
        return await store.marks()

    kept = next(one for one in with_store(connect, keep) if one.id == mark.id)
    copy_marks(lake, [kept])
    return kept


def _require_committed(view: FeatureView, attempt: int, committed: Sequence[int]) -> None:
    if attempt not in committed:
        raise InvalidationError(
            f"{view.ref} has no committed attempt {attempt}; the newest are {_some(committed)}",
            hint="an answer, a replay and the attempt log name the attempt of a value",
        )


def _some(of: Iterable[object]) -> str:
    found = [str(one) for one in of]
    return ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "") if found else "none"
