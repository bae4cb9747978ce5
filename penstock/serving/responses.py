"""Answers in the shapes that `messages` documents."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from penstock.clock import from_micros
from penstock.serving.judgement import Served
from penstock.serving.lookup import Answer
from penstock.serving.messages import ColumnsResponse, Row, RowsResponse, Status
from penstock.serving.plan import OnDemandPlan, ViewPlan


def in_rows(answer: Answer, token: str) -> RowsResponse:
    """The answer, an object per entity."""
    plan, now_us = answer.plan, answer.now_us
    rows = []
    for parts in zip(*answer.shown, strict=True):
        values: Sequence[Any] = list(chain.from_iterable([part.values for part in parts]))
        statuses: Sequence[Any] = list(chain.from_iterable([part.statuses for part in parts]))
        times_us = [part.event_time_us for part in parts]
        row = Row(
            values=values if plan.reorder is None else plan.reorder(values),  # type: ignore[arg-type]  # a tuple is as good
            statuses=statuses if plan.reorder is None else plan.reorder(statuses),  # type: ignore[arg-type]
            event_times=[None if at_us is None else from_micros(at_us) for at_us in times_us],
            ages_s=[None if at_us is None else (now_us - at_us) / 1_000_000 for at_us in times_us],
        )
        rows.append(row)
    return RowsResponse(
        service=plan.service.name,
        contract=plan.service.contract,
        snapshot=plan.snapshot,
        now=from_micros(now_us),
        token=token,
        features=plan.feature_names,
        dtypes=plan.dtypes,
        views=plan.served_views,
        rows=rows,
    )


def in_columns(answer: Answer, token: str) -> ColumnsResponse:
    """The answer, a list per feature."""
    plan = answer.plan
    by_view = list(zip(plan.shown, answer.shown, strict=True))
    values: Sequence[Any] = list(chain.from_iterable(value_columns(view, parts) for view, parts in by_view))
    statuses: Sequence[Any] = list(chain.from_iterable(status_columns(view, parts) for view, parts in by_view))
    return ColumnsResponse(
        service=plan.service.name,
        contract=plan.service.contract,
        snapshot=plan.snapshot,
        now_us=answer.now_us,
        token=token,
        features=plan.feature_names,
        dtypes=plan.dtypes,
        views=plan.served_views,
        rows=answer.rows,
        values=values if plan.reorder is None else plan.reorder(values),  # type: ignore[arg-type]
        statuses=statuses if plan.reorder is None else plan.reorder(statuses),  # type: ignore[arg-type]
        event_times_us=[[part.event_time_us for part in parts] for parts in answer.shown],
    )


def value_columns(view: ViewPlan | OnDemandPlan, parts: Sequence[Served]) -> Sequence[Sequence[Any]]:
    """Per feature of the view, its value in each row."""
    return list(zip(*[part.values for part in parts], strict=True)) if parts else [()] * len(view.features)


def status_columns(view: ViewPlan | OnDemandPlan, parts: Sequence[Served]) -> Sequence[Status | Sequence[Status]]:
    """Per feature of the view, its status in each row, or one status where all rows have the same."""
    first = parts[0].statuses if parts else view.all[Status.PRESENT]
    if all(part.statuses is first for part in parts):
        return first
    return [column[0] if len(set(column)) == 1 else column for column in zip(*[part.statuses for part in parts], strict=True)]
