"""Penstock: a feature store on a lakehouse."""

from typing import TYPE_CHECKING, Any

from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, Source
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.store import Store, open

__all__ = ["Entity", "Feature", "FeatureService", "FeatureView", "FreshnessSla", "PenstockError", "Source", "Store", "open"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The handle brings Spark and a driver; `import penstock.sdk` must bring neither.
    if name in ("open", "Store"):
        from penstock import store  # noqa: PLC0415

        return getattr(store, name)
    raise AttributeError(f"module 'penstock' has no attribute '{name}'")
