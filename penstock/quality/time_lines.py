"""A view over time, drawn: how old its newest complete data was, and how many nulls its days have."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

from penstock.clock import from_micros, to_micros
from penstock.contract.view import FeatureView
from penstock.offline.statistics import ColumnStatistics
from penstock.online.ledger import Publication, reached_us
from penstock.report.charts import READABLE, heat, lines
from penstock.report.page import Part, Picture

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_LOOKS_AN_HOUR = 4


def freshness_line(view: FeatureView, publications: Iterable[Publication], since: datetime, until: datetime) -> list[Part]:
    """A picture of the view's age against its SLA; nothing: nothing of it was online by then.

    Args:
        view: the view.
        publications: its ledger rows of one generation, in any order.
        since, until: what of it.
    """
    ages = list(_ages(publications, since, until))
    if not ages:
        return []
    at = [(when - since) / _HOUR for when, _ in ages]
    minutes = [age / _MINUTE for _, age in ages]
    allowed = view.freshness.total / _MINUTE
    series = {"age": (at, minutes), "SLA": ([at[0], at[-1]], [allowed, allowed])}
    drawn = lines(series, x=f"hours from {since:%Y-%m-%d %H:%M} UTC", y="minutes")
    return [Picture(drawn, "How old the newest complete data online was, in event time.")]


def _ages(publications: Iterable[Publication], since: datetime, until: datetime) -> Iterator[tuple[datetime, timedelta]]:
    waiting = sorted(publications, key=lambda row: (row.readable_at_us, row.partition), reverse=True)
    begun = waiting[-1].partition if waiting else date.max
    held: dict[date, Publication] = {}
    for n in range(int((until - since) / _HOUR * _LOOKS_AN_HOUR) + 1):
        at = since + n * _HOUR / _LOOKS_AN_HOUR
        while waiting and waiting[-1].readable_at_us <= to_micros(at):
            row = waiting.pop()
            known = held.get(row.partition)
            held[row.partition] = row if known is None or row.attempt > known.attempt else known
        reached = reached_us({day: row.complete_until_us for day, row in held.items()}, begun)
        if reached is not None:
            yield at, at - from_micros(reached)


def null_map(days: Mapping[date, Mapping[str, ColumnStatistics]], names: Sequence[str]) -> list[Part]:
    """A picture of the share of nulls by feature and day; nothing: there are none, or fewer than two days.

    Args:
        days: day → feature → what its values are like.
        names: features, in order.
    """
    ever = [name for name in names if any(name in of_day and of_day[name].nulls for of_day in days.values())][:READABLE]
    if len(days) < 2 or not ever:
        return []
    shares = [[_null_share(days[day].get(name)) for day in sorted(days)] for name in ever]
    drawn = heat(ever, [f"{day:%m-%d}" for day in sorted(days)], shares)
    return [Picture(drawn, "Share of nulls among the lake's rows, by day, of the features that have any; grey: not looked at.")]


def _null_share(of: ColumnStatistics | None) -> float | None:
    return None if of is None or not of.rows else of.nulls / of.rows
