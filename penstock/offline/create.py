"""A Delta table made by Spark, once, whatever an earlier try at it left behind."""

from pyspark.sql import SparkSession

from penstock.offline.lake import Lake


def create_table(spark: SparkSession, lake: Lake, table: str, declared: str) -> None:
    """Make a table; it is there already: nothing.

    Args:
        spark, lake, table: with what, where, and which.
        declared: what follows the name in CREATE TABLE: columns, USING, PARTITIONED BY, TBLPROPERTIES.
    """
    create = f"CREATE TABLE IF NOT EXISTS delta.`{lake.location(table)}` {declared}"
    spark.sql(create)
    if lake.version(table) is None:
        # Spark takes any file in the log's folder for a table: what a creation left that was killed, or had no space.
        lake.remove_folder(f"{table}/_delta_log")
        spark.sql(create)
