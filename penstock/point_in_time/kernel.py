"""The rule of time in numpy, for any number of keys at once. The reference is `penstock.as_of`.

Rows are ranked by (key, event_time, created_time, tie). A row counts from when it was known until a later row of its
event time is known: its span. At `t` a key's answer is its row of greatest rank that is no retraction and whose span
holds `t`. Where nothing was retracted that is the greatest rank known so far: a running maximum, found by one search.
A row whose span is over gives way to the next lower rank that counts; where that takes long, a sweep in order of time
keeps what counts in a heap.

All times are int64 microseconds since 1970. Keys are int64 ordinals from 0, equal exactly where all join keys are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from penstock.offline.join_keys import NONE, Ints

_LARGEST = np.iinfo(np.int64).max
_STEPS_DOWN = 32


@dataclass(frozen=True)
class Rows:
    """n feature rows, in any order.

    Args:
        key: ordinals.
        event, created: times.
        known: from when the row was known, at least `event`.
        retracted: whether it says that nothing holds at this event time.
        tie: given rows that share key, event and created time, numbers that order them; asked only if there are any.
    """

    key: Ints
    event: Ints
    created: Ints
    known: Ints
    retracted: npt.NDArray[np.bool_]
    tie: Callable[[Ints], Ints]


def rows_as_of(rows: Rows, key: Ints, at: Ints, ttl: int | None) -> Ints:
    """The row to use for each question.

    Args:
        rows: n rows.
        key, at: m questions: a key's ordinal, and a time.
        ttl: greatest age in microseconds, or None.

    Returns:
        m indices into `rows`; NONE where no row is eligible.
    """
    order, known, until = _ranked(rows)
    if not len(order) or not len(key):
        return np.full(len(key), NONE, np.int64)
    owner = rows.key[order]
    rank = _greatest_known(owner, known, key, at)
    _step_down(rank, owner, known, until, key, at)
    answer = np.where(rank != NONE, order[rank], NONE)
    if ttl is not None:
        answer[(rank != NONE) & (at - rows.event[answer] > ttl)] = NONE
    return answer


def may_still_be_used(rows: Rows, since: int) -> npt.NDArray[np.bool_]:
    """Which of n rows can be an answer at `since` or later, given that no other row of their event times will come.

    A row that was known by then and stays hides all earlier event times of its key.
    """
    order, known, until = _ranked(rows)
    stays = order[(until == _LARGEST) & (known <= since)]  # in order of key, then of event time
    keys, first_from_the_end = np.unique(rows.key[stays][::-1], return_index=True)
    newest = rows.event[stays][::-1][first_from_the_end]
    place = np.minimum(np.searchsorted(keys, rows.key), max(len(keys) - 1, 0))
    if not len(keys):
        return np.ones(len(rows.key), np.bool_)
    hidden: npt.NDArray[np.bool_] = (keys[place] == rows.key) & (rows.event < newest[place])
    return ~hidden


def _ranked(rows: Rows) -> tuple[Ints, Ints, Ints]:
    """The rows that ever count, by rank; from when each was known and until when it counts."""
    if not len(rows.key):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    place = _packed(rows.key, rows.event)
    order = np.argsort(place)
    place = place[order]
    until = np.full(len(order), _LARGEST, np.int64)
    same = np.flatnonzero(place[:-1] == place[1:])
    if len(same):
        several = np.union1d(same, same + 1)  # places of rows that share key and event time
        run = np.cumsum(np.diff(place[several], prepend=place[several[0]]) != 0)
        order[several] = _by_created(rows, run, order[several])
        until[several] = _until(run, rows.known[order[several]])
    known = rows.known[order]
    counts = known < until
    if rows.retracted.any():
        counts &= ~rows.retracted[order]
    return (order, known, until) if counts.all() else (order[counts], known[counts], until[counts])


def _by_created(rows: Rows, run: Ints, members: Ints) -> Ints:
    """The members of runs, in order of created time within each."""
    inner = np.lexsort([rows.created[members], run])
    members = np.asarray(members[inner])
    created = rows.created[members]
    same = np.flatnonzero((run[:-1] == run[1:]) & (created[:-1] == created[1:]))
    if len(same):
        tied = np.union1d(same, same + 1)
        ties = np.zeros(len(members), np.int64)
        ties[tied] = rows.tie(members[tied])
        members = members[np.lexsort([ties, created, run])]
    return members


def _until(run: Ints, known: Ints) -> Ints:
    """For each row of runs, in order of rank, when a later row of its run was known; `_LARGEST` for the last."""
    moments, ordinal = np.unique(known, return_inverse=True)
    # Runs before have smaller numbers throughout, so a running minimum from the end stays within its run.
    earliest = np.minimum.accumulate((run * len(moments) + ordinal)[::-1])[::-1]
    until = np.full(len(run), _LARGEST, np.int64)
    followed = np.flatnonzero(run[:-1] == run[1:])
    until[followed] = moments[earliest[followed + 1] - run[followed] * len(moments)]
    return until


def _greatest_known(owner: Ints, known: Ints, key: Ints, at: Ints) -> Ints:
    """For each question, the greatest rank of its key that was known; NONE: none was."""
    facts, questions = _packed_together(owner, known, key, at)
    if (facts[1:] >= facts[:-1]).all():  # known in the order of their ranks
        rank = _at_or_before(facts, questions)
    else:
        by_known = np.argsort(facts, kind="stable")
        # Ranks grow with the key, so those of the keys before never win.
        greatest = np.maximum.accumulate(by_known)
        place = _at_or_before(facts[by_known], questions)
        rank = np.where(place >= 0, greatest[place], NONE)
    rank[(rank != NONE) & (owner[rank] != key)] = NONE
    return rank


def _at_or_before(facts: Ints, questions: Ints) -> Ints:
    """For each question the place of the last fact that is not greater; -1: there is none."""
    order = np.argsort(questions)  # in order, each search begins where the last one ended: 10 times as fast
    place = np.empty(len(questions), np.int64)
    place[order] = np.searchsorted(facts, questions[order], "right") - 1
    return place


def _packed(key: Ints, time: Ints) -> Ints:
    """One number per (key, time), in the order of the pairs."""
    first = time.min()
    if not _fits(int(key.max()) + 1, int(time.max()) - int(first) + 1):
        _, time = np.unique(time, return_inverse=True)
        first = np.int64(0)
    packed: Ints = key * (time.max() - first + 1) + (time - first)
    return packed


def _packed_together(owner: Ints, known: Ints, key: Ints, at: Ints) -> tuple[Ints, Ints]:
    """The same for facts and for questions, comparable with each other."""
    first = min(int(known.min()), int(at.min()))
    span = max(int(known.max()), int(at.max())) - first + 1
    if not _fits(max(int(owner.max()), int(key.max())) + 1, span):
        moments = np.unique(known)
        known, at = np.searchsorted(moments, known, "right"), np.searchsorted(moments, at, "right")
        first, span = 0, len(moments) + 1
    return owner * span + (known - first), key * span + (at - first)


def _fits(keys: int, span: int) -> bool:
    return keys * span < _LARGEST


def _step_down(rank: Ints, owner: Ints, known: Ints, until: Ints, key: Ints, at: Ints) -> None:
    """Where the span of a rank is over, put the next lower rank of the key that counts."""
    late = np.flatnonzero((rank != NONE) & (until[rank] <= at))
    for _ in range(_STEPS_DOWN):
        if not len(late):
            return
        lower = rank[late] - 1
        lower[(lower >= 0) & (owner[lower] != key[late])] = NONE
        rank[late] = lower
        t = at[late]
        late = late[(lower != NONE) & ((known[lower] > t) | (until[lower] <= t))]
    for one in np.unique(key[late]).tolist():
        mine = late[key[late] == one]
        begin, end = np.searchsorted(owner, [one, one + 1])
        rank[mine] = _swept(known[begin:end], until[begin:end], at[mine], begin)


def _swept(known: Ints, until: Ints, at: Ints, begin: int) -> Ints:
    """The same for the questions on one key, whose ranks start at `begin`."""
    answer = np.full(len(at), NONE, np.int64)
    counting: list[int] = []
    arrivals = np.argsort(known, kind="stable").tolist()
    arrived = 0
    for question in np.argsort(at, kind="stable").tolist():
        t = at[question]
        while arrived < len(arrivals) and known[arrivals[arrived]] <= t:
            heappush(counting, -arrivals[arrived])
            arrived += 1
        while counting and until[-counting[0]] <= t:
            heappop(counting)
        if counting:
            answer[question] = begin - counting[0]
    return answer
