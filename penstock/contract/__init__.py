"""The language: what users write to define entities, sources, feature views and feature services."""

from penstock.contract.aggregation import Aggregation, count, days, hours, largest, mean, minutes, seconds, smallest, total
from penstock.contract.entity import Entity
from penstock.contract.service import FeatureService
from penstock.contract.source import Availability, Pii, Source, available_after, available_at
from penstock.contract.view import FeatureView
from penstock.contract.view_parts import Degradation, Feature, FreshnessSla, Readiness, fail, serve_stale

__all__ = [
    "Aggregation",
    "Availability",
    "Degradation",
    "Entity",
    "Feature",
    "FeatureService",
    "FeatureView",
    "FreshnessSla",
    "Pii",
    "Readiness",
    "Source",
    "available_after",
    "available_at",
    "count",
    "days",
    "fail",
    "hours",
    "largest",
    "mean",
    "minutes",
    "seconds",
    "serve_stale",
    "smallest",
    "total",
]
