"""Features for a model that runs elsewhere: needs neither Spark nor Dagster nor a database driver."""

from penstock.sdk.client import AsyncFeatureClient, FeatureClient
from penstock.sdk.result import FeatureResult, FeatureValue, ViewRead

__all__ = ["AsyncFeatureClient", "FeatureClient", "FeatureResult", "FeatureValue", "ViewRead"]
