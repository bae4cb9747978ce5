"""Penstock: a feature store on a lakehouse."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, Source
    from penstock.errors import PenstockError
    from penstock.store import Store, open

__all__ = ["Entity", "Feature", "FeatureService", "FeatureView", "FreshnessSla", "PenstockError", "Source", "Store", "open"]
__version__ = "0.1.0"

# Brought when asked for: `import penstock.sdk` must bring neither Spark and a driver nor the language of definitions.
_HOMES = {
    **dict.fromkeys(["Entity", "Feature", "FeatureService", "FeatureView", "FreshnessSla", "Source"], "penstock.contract"),
    "PenstockError": "penstock.errors",
    **dict.fromkeys(["Store", "open"], "penstock.store"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'penstock' has no attribute '{name}'")
