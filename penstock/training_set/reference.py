"""What views were last trained on: the statistics of the newest training set that has features of them."""

from collections.abc import Sequence

from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake
from penstock.offline.statistics import Reference, merged
from penstock.training_set.manifest import manifests, statistics_kept


def newest_references(lake: Lake, views: Sequence[FeatureView]) -> dict[FeatureView, Reference]:
    """View → what its features are like in the newest training set that has any; views that are in none are left out."""
    found: dict[FeatureView, Reference] = {}
    for manifest in reversed(manifests(lake)):
        for view in views:
            inputs = [one for one in manifest.inputs if (one.view, one.version) == (view.name, view.version)]
            if view in found or not inputs:
                continue
            kept = statistics_kept(lake, manifest)
            # A view may be in it under several names; its columns are called by them, or by the features' own where that was asked for.
            of_names = [
                {name: kept[column] for name in one.features for column in (f"{one.name}__{name}", name) if column in kept}
                for one in inputs
            ]
            found[view] = Reference(f"{manifest.name} of {manifest.created_at:%Y-%m-%d}", merged(of_names))
    return found
