"""What a mode leaks: one spine under two modes, compared feature by feature."""

from collections.abc import Sequence
from functools import reduce

import msgspec
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.as_of import Mode
from penstock.errors import SpineError
from penstock.offline.lake import Lake
from penstock.point_in_time.sql_engine import ViewTable, attach, join, output_column
from penstock.training_set.build import Manifest
from penstock.training_set.split import COLUMN

_OTHER = "__other"


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
    both = attach(spark, join(spark, spine, tables, modes[0]), spine, tables, modes[1], suffix=_OTHER)
    return _counted(both, [output_column(table.view, feature) for table in tables for feature in table.features])


def leakage_between(spark: SparkSession, lake: Lake, one: Manifest, other: Manifest) -> list[FeatureDelta]:
    """The same of two training sets that are built already, of one spine and one service under two modes.

    Raises:
        SpineError: they are of different spines or contracts.
    """
    if (one.spine_content, one.contract) != (other.spine_content, other.contract):
        raise SpineError(f"{one.table} and {other.table} are not of one spine and one service: their rows cannot be compared")
    # Rows that agree in all columns of the spine are paired as they come: their features are equal, too.
    nth = Window.partitionBy(*one.spine_columns).orderBy(F.lit(1))
    key = [*one.spine_columns, "_nth"]
    first, second = (
        spark.read.format("delta").load(lake.location(made.table)).withColumn("_nth", F.row_number().over(nth)) for made in (one, other)
    )
    names = [name for name in first.columns if name not in (*key, COLUMN)]
    pair = reduce(Column.__and__, [F.col(f"a.`{name}`").eqNullSafe(F.col(f"b.`{name}`")) for name in key])
    both = (
        first.alias("a")
        .join(second.alias("b"), pair)
        .select(*[F.col(f"a.`{name}`") for name in names], *[F.col(f"b.`{name}`").alias(name + _OTHER) for name in names])
    )
    return _counted(both, names)


def _counted(both: DataFrame, names: Sequence[str]) -> list[FeatureDelta]:
    counts = [F.count(F.lit(1)).alias("rows")]
    for name in names:
        one, other = F.col(f"`{name}`"), F.col(f"`{name}{_OTHER}`")
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
