"""Features for a model that runs elsewhere: needs neither Spark nor Dagster nor a database driver."""

from typing import TYPE_CHECKING, Any

from penstock.sdk.client import FeatureClient
from penstock.sdk.result import FeatureResult, FeatureValue, ViewRead

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncFeatureClient

__all__ = ["AsyncFeatureClient", "FeatureClient", "FeatureResult", "FeatureValue", "ViewRead"]


def __getattr__(name: str) -> Any:
    # It brings asyncio, which a program that waits does without.
    if name == "AsyncFeatureClient":
        from penstock.sdk.async_client import AsyncFeatureClient  # noqa: PLC0415

        return AsyncFeatureClient
    raise AttributeError(f"module 'penstock.sdk' has no attribute '{name}'")
