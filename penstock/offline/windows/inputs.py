"""From a source's rows to the inputs of windows, and what comes of them, in Spark."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.dtypes import FLOAT_DTYPES, spark_type
from penstock.offline.windows.plan import HASHED, plan_of


def with_inputs(view: FeatureView, source: DataFrame) -> DataFrame:
    """Join keys, `event_time`, `available_time` and the inputs of the view's windows; rows of identified entities only."""
    keys = list(view.entity.join_keys)
    inputs = []
    for name in plan_of(view).inputs:
        column = F.col(name.removeprefix(HASHED))
        if not name.startswith(HASHED):
            inputs.append(column.cast("double").alias(name))
            continue
        if view.sources[0].schema[name.removeprefix(HASHED)] in FLOAT_DTYPES:
            column = column + F.lit(0.0)  # 0.0 and -0.0 are one value
        inputs.append(F.when(column.isNotNull(), F.xxhash64(column)).alias(name))
    needed = source.select(*keys, "event_time", "available_time", *inputs)
    return needed.dropna(subset=keys) if keys else needed


def output_schema(view: FeatureView) -> str:
    """Join keys, `event_time` and features, as Spark's DDL."""
    fields = [*((key, spark_type(dtype)) for key, dtype in view.entity.join_keys.items()), ("event_time", "timestamp")]
    fields += [(f.name, spark_type(f.dtype)) for f in view.features]
    return ", ".join(f"`{name}` {dtype}" for name, dtype in fields)
