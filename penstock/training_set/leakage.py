"""What a mode leaks: one spine under two modes, compared feature by feature."""

from collections.abc import Sequence

import msgspec
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.as_of import Mode
from penstock.point_in_time.sql_engine import ViewTable, attach, join, output_column


class FeatureDelta(msgspec.Struct, frozen=True, kw_only=True):
    """How far one feature differs between two modes.

    Args:
        feature: `<view>__<feature>`.
        rows: spine rows compared.
        differ: rows whose values differ, null against a value included.
        share: differ / rows, 0 to 1.
        present: rows with a value under the first and the second mode.
    """

    feature: str
    rows: int
    differ: int
    share: float
    present: tuple[int, int]


def leakage_delta(
    spark: SparkSession, spine: DataFrame, tables: Sequence[ViewTable], *, modes: tuple[Mode, Mode] = ("event", "observed")
) -> list[FeatureDelta]:
    """Per feature, how many rows of the spine differ between two modes."""
    both = attach(spark, join(spark, spine, tables, modes[0]), spine, tables, modes[1], suffix="__other")
    names = [output_column(table.view, feature) for table in tables for feature in table.features]
    counts = [F.count(F.lit(1)).alias("rows")]
    for name in names:
        one, other = F.col(f"`{name}`"), F.col(f"`{name}__other`")
        counts += [
            F.count_if(~one.eqNullSafe(other)).alias(f"{name}:differ"),
            F.count(one).alias(f"{name}:0"),
            F.count(other).alias(f"{name}:1"),
        ]
    row = both.agg(*counts).collect()[0]
    return [
        FeatureDelta(
            feature=name,
            rows=row["rows"],
            differ=row[f"{name}:differ"],
            share=row[f"{name}:differ"] / row["rows"] if row["rows"] else 0.0,
            present=(row[f"{name}:0"], row[f"{name}:1"]),
        )
        for name in names
    ]
