"""On-demand views of an answer: what their functions make of the features just read and of what the caller gave.

A feature's status is the worst of the inputs of its row:

    an input ERROR         the function does not see the row: null, ERROR
    an input DEFAULT       DEFAULT: computed from a declared default
    an input STALE         STALE
    otherwise              PRESENT; null: NOT_FOUND if an input is, else NULL
    what is NaN, infinite  null, ERROR, whatever the inputs; so is all a function gives that raises or gives what it does not declare
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from penstock.dtypes import FLOAT_DTYPES, accepts
from penstock.errors import InvalidEntity
from penstock.serving.entity_keys import typed
from penstock.serving.judgement import Outcome, Served
from penstock.serving.messages import JoinKeyValue, Status
from penstock.serving.plan import OnDemandPlan, ServicePlan

Given: TypeAlias = Mapping[str, Sequence[Any]]
"""Request field → its value in each row, of its dtype; None: null."""

_HINT = "give every request field of the service with a value of its type, null if there is none; GET /v1/services/<service> lists them"
_TOLD = (Status.DEFAULT, Status.STALE)
_WORST_FIRST = (Status.ERROR, Status.DEFAULT, Status.STALE, Status.NOT_FOUND)
_LARGEST_FLOAT32 = 3.4028234663852886e38


def request_fields(plan: ServicePlan, entities: Sequence[Mapping[str, JoinKeyValue]]) -> Given:
    """What the caller gave for the on-demand views of a plan.

    Raises:
        InvalidEntity: a field is missing or of another type.
    """
    fields = {name: dtype for one in plan.on_demand for name, dtype in one.view.request}
    return {name: [_field(entity, position, name, dtype) for position, entity in enumerate(entities)] for name, dtype in fields.items()}


def compute(plan: ServicePlan, parts: Sequence[Sequence[Served]], given: Given, rows: int) -> list[Sequence[Served]]:
    """Per on-demand view of a plan, its part in each row.

    Args:
        plan: what was read.
        parts: per view of the plan, its part in each row.
        given: of the caller.
        rows: how many.
    """
    return [_computed(plan, one, parts, given, rows) for one in plan.on_demand]


def given_of(view: OnDemandPlan, given: Given, row: int) -> bytes:
    """What a row gave a view, as JSON: the values of its request fields, in order."""
    return msgspec.json.encode([given[name][row] for name, _ in view.view.request])


def _field(entity: Mapping[str, JoinKeyValue], position: int, name: str, dtype: str) -> Any:
    if name not in entity:
        raise InvalidEntity(f"entity {position}: missing request field '{name}' ({dtype})", hint=_HINT)
    if entity[name] is None:
        return None
    value = typed(name, dtype, entity[name], position, "request field")
    if not _fits(dtype, value):
        text = repr(value)
        raise InvalidEntity(
            f"entity {position}: request field '{name}' is {dtype}, got {text[:80]} ({type(value).__name__})",
            hint=_HINT,
        )
    return value


def _fits(dtype: str, value: Any) -> bool:
    try:
        if not accepts(dtype, value):
            return False
        return dtype not in FLOAT_DTYPES or (math.isfinite(value) and (dtype == "float64" or abs(value) <= _LARGEST_FLOAT32))
    except OverflowError:  # an integer that no float holds
        return False


def _computed(plan: ServicePlan, view: OnDemandPlan, parts: Sequence[Sequence[Served]], given: Given, rows: int) -> list[Served]:
    from penstock.request_time import flags, from_python, to_python  # noqa: PLC0415  # needs numpy, which other services do without

    if not rows:
        return []
    columns = {name: from_python(dtype, given[name]) for name, dtype in view.view.request}
    for (name, dtype), (of_view, place) in zip(view.view.taken, view.places, strict=True):
        columns[name] = from_python(dtype, [part.values[place] for part in parts[of_view]])
    labels, times = _labels(plan, view, parts, rows), _oldest([parts[of_view] for of_view in view.reads], rows)
    found = view.function.run(columns, flags([label is Status.ERROR for label in labels]))
    if found is None:
        return [Served(view.nulls, view.all[Status.ERROR], Outcome.FAILED, time) for time in times]
    computed = [found[feature.stored_at] for feature in view.features]
    values = zip(*map(to_python, computed), strict=True)
    bad = zip(*(one.bad.tolist() for one in computed), strict=True)
    served = []
    for of_row, wrong, label, time in zip(values, bad, labels, times, strict=True):
        statuses = view.all[label if label in _TOLD else Status.PRESENT]
        if None in of_row:
            statuses = tuple(_status(label, value, failed) for value, failed in zip(of_row, wrong, strict=True))
        served.append(Served(of_row, statuses, Outcome.LACKING if label is Status.ERROR else Outcome.COMPUTED, time))
    return served


def _labels(plan: ServicePlan, view: OnDemandPlan, parts: Sequence[Sequence[Served]], rows: int) -> list[Status]:
    """The worst status of each row's inputs; those that say nothing of a value that is there count as PRESENT."""
    usual = [(parts[n], plan.views[n].all[Status.PRESENT]) for n in view.reads]
    labels = []
    for row in range(rows):
        label = Status.PRESENT
        if not all(of_view[row].statuses is present for of_view, present in usual):
            seen = {parts[of_view][row].statuses[place] for of_view, place in view.places}
            label = next((worst for worst in _WORST_FIRST if worst in seen), Status.PRESENT)
        labels.append(label)
    return labels


def _oldest(parts: Sequence[Sequence[Served]], rows: int) -> list[int | None]:
    """The oldest event time of each row's inputs."""
    times = ([of_view[row].event_time_us for of_view in parts] for row in range(rows))
    return [min((time for time in of_row if time is not None), default=None) for of_row in times]


def _status(label: Status, value: Any, bad: bool) -> Status:
    if bad:
        return Status.ERROR
    if label in _TOLD:
        return label
    if value is not None:
        return Status.PRESENT
    return Status.NOT_FOUND if label is Status.NOT_FOUND else Status.NULL
