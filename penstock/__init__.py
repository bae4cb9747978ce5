"""Penstock: a feature store on a lakehouse."""

from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, Source
    from penstock.store import Store, open

__all__ = ["Entity", "Feature", "FeatureService", "FeatureView", "FreshnessSla", "PenstockError", "Source", "Store", "open"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The handle brings Spark and a driver, the language takes its time: `import penstock.sdk` must bring neither.
    if name in ("open", "Store"):
        from penstock import store  # noqa: PLC0415

        return getattr(store, name)
    if name in __all__:
        from penstock import contract  # noqa: PLC0415

        return getattr(contract, name)
    raise AttributeError(f"module 'penstock' has no attribute '{name}'")
