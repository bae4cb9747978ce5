"""The language: what users write to define entities, sources, feature views and feature services."""

from penstock.contract.aggregation import (
    EACH_EVENT,
    Aggregation,
    approx_distinct,
    approx_quantile,
    count,
    days,
    first,
    hours,
    largest,
    last,
    mean,
    minutes,
    seconds,
    smallest,
    std,
    total,
)
from penstock.contract.entity import Entity
from penstock.contract.function import Columns
from penstock.contract.on_demand import OnDemandView
from penstock.contract.service import FeatureService
from penstock.contract.skew import Budget, SkewPolicy
from penstock.contract.source import Availability, External, Pii, Source, available_after, available_at, delta, parquet
from penstock.contract.view import FeatureView
from penstock.contract.view_parts import Degradation, Feature, FreshnessSla, Readiness, fail, serve_stale

__all__ = [
    "EACH_EVENT",
    "Aggregation",
    "Availability",
    "Budget",
    "Columns",
    "Degradation",
    "Entity",
    "External",
    "Feature",
    "FeatureService",
    "FeatureView",
    "FreshnessSla",
    "OnDemandView",
    "Pii",
    "Readiness",
    "SkewPolicy",
    "Source",
    "approx_distinct",
    "approx_quantile",
    "available_after",
    "available_at",
    "count",
    "days",
    "delta",
    "fail",
    "first",
    "hours",
    "largest",
    "last",
    "mean",
    "minutes",
    "parquet",
    "seconds",
    "serve_stale",
    "smallest",
    "std",
    "total",
]
