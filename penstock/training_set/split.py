"""Which rows of a training set are for training and which for testing, as a column `split`.

time:2026-11-01T00:00:00Z         rows before this event time are `train`, the others `test`
hash:0.2:tailnum                  of the values of these columns (commas between several) one in five is `test`;
                                  a value is always on the same side, so an entity is never on both
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from penstock.clock import parse_instant
from penstock.errors import SpineError
from penstock.offline.commit import EXACT_JSON

COLUMN = "split"
_FORMS = "expected 'time:<ISO 8601 with offset>' or 'hash:<share from 0 to 1>:<column>[,<column>]'"
_FINE = 10**6


@dataclass(frozen=True)
class ByTime:
    """Rows at or after `at` are for testing."""

    at: datetime


@dataclass(frozen=True)
class ByHash:
    """A share of the values of some columns is for testing."""

    share: float
    columns: tuple[str, ...]


Split: TypeAlias = ByTime | ByHash


def parse_split(text: str) -> Split:
    """A split from its text.

    Raises:
        SpineError: it is not one.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "time":
            return ByTime(parse_instant(rest))
        if kind == "hash":
            share, _, columns = rest.partition(":")
            names = tuple(name.strip() for name in columns.split(",") if name.strip())
            if 0 < float(share) < 1 and names:
                return ByHash(float(share), names)
    except ValueError as error:
        raise SpineError(f"split '{text}': {error}; {_FORMS}") from None
    raise SpineError(f"split '{text}': {_FORMS}")


def with_split(rows: DataFrame, split: Split) -> DataFrame:
    """The rows with a column `split`: `train` or `test`; a null time is `train`.

    Raises:
        SpineError: the rows have such a column already, or lack one that is hashed.
    """
    if COLUMN in rows.columns:
        raise SpineError(f"the spine already has a column '{COLUMN}'", hint="rename it, or leave the split out")
    return rows.withColumn(COLUMN, F.when(_is_test(rows, split), "test").otherwise("train"))


def _is_test(rows: DataFrame, split: Split) -> Column:
    if isinstance(split, ByTime):
        return F.col("event_time") >= F.lit(split.at)
    missing = [name for name in split.columns if name not in rows.columns]
    if missing:
        raise SpineError(f"split by {', '.join(map(repr, missing))}: not in the spine; it has {', '.join(rows.columns)}")
    # sha2 of JSON, not Spark's hash: the same on every engine, version and session time zone.
    digest = F.sha2(F.to_json(F.struct(*[F.col(f"`{name}`") for name in split.columns]), EXACT_JSON), 256)
    place = F.conv(F.substring(digest, 1, 13), 16, 10).cast("bigint") % _FINE
    return place < round(split.share * _FINE)
