"""What a mode leaks: one spine under two modes, compared feature by feature."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import msgspec
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.as_of import Mode
from penstock.contract.service import Selection
from penstock.errors import SpineError
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import Spine
from penstock.point_in_time.view_join import view_joins
from penstock.training_set.manifest import Manifest
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
    lake: Lake, spine: Spine, selection: Sequence[Selection], resources: Resources, *, modes: tuple[Mode, Mode] = ("event", "observed")
) -> list[FeatureDelta]:
    """Per feature, how many rows of the spine differ between two modes."""
    first = view_joins(lake, selection, modes[0])
    # The same tables under the other mode, joined beside: one version of each, one pass.
    second = [replace(one, mode=modes[1], name=one.name + _OTHER) for one in first]
    both = join(lake, spine, [*first, *second], resources).to_spark()
    return _counted(both, {a: b for one, other in zip(first, second, strict=True) for a, b in zip(one.columns, other.columns, strict=True)})


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
    return _counted(both, {name: name + _OTHER for name in names})


def _counted(both: DataFrame, names: Mapping[str, str]) -> list[FeatureDelta]:
    counts = [F.count(F.lit(1)).alias("rows")]
    for name, beside in names.items():
        one, other = F.col(f"`{name}`"), F.col(f"`{beside}`")
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
