"""The best plain Spark plan that was found: one view at a time, union with the spine, a window over packed structs."""

import shutil

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from benchmarks.point_in_time.engines.common import View, arguments, measure, views_of


def main() -> None:
    root, out, runs, cores = arguments()
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", "6g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "8")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        rows = spark.read.parquet(str(root / "spine_parquet"))
        for view in views_of(root):
            rows = attached(spark, rows, view)
        rows.write.parquet(str(out))

    measure(runs, work)
    spark.stop()


def attached(spark: SparkSession, spine: DataFrame, view: View) -> DataFrame:
    """The spine with the features of a view: last(struct) over one shuffle and sort."""
    names = spine.columns
    features = spark.read.parquet(view.folder).select(
        *view.keys, "event_time", "created_time", F.struct("event_time", *view.features).alias("_row")
    )
    asks = spine.select(
        *view.keys,
        "event_time",
        F.lit(None).cast("timestamp").alias("created_time"),
        F.lit(None).cast(features.schema["_row"].dataType).alias("_row"),
        F.struct(*names).alias("_spine"),
    )
    facts = features.withColumn("_spine", F.lit(None).cast(asks.schema["_spine"].dataType))
    so_far = (
        Window.partitionBy(*view.keys)
        .orderBy("event_time", F.col("_spine").isNotNull(), "created_time")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    seen = asks.unionByName(facts).withColumn("_row", F.last("_row", ignorenulls=True).over(so_far)).where("_spine IS NOT NULL")
    fresh = F.col("_spine.event_time") - F.col("_row.event_time") <= F.expr(f"INTERVAL {view.ttl_s} SECOND")
    return seen.select("_spine.*", *[F.when(fresh, F.col(f"_row.{name}")).alias(f"{view.name}__{name}") for name in view.features])


if __name__ == "__main__":
    main()
