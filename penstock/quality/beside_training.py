"""What was served on a day beside the newest training set with the view's features, by what their values are like.

Replay tells whether each served value is the one training is given for its key and time. It cannot tell that other keys are asked for
than a model was trained on, or that the world is another one since. The distances are those of `distributions`. Who is served is seldom
who was trained on in the same shares, so a distance is a warning and never more.
"""

from collections.abc import Mapping

from penstock.contract.view import FeatureView
from penstock.offline.statistics import ColumnStatistics, Reference
from penstock.quality.distributions import unlike
from penstock.quality.skew import TRAINING, Level, SkewCheck

_SAID = 5


def training_check(view: FeatureView, trained: Reference, served: Mapping[str, ColumnStatistics]) -> SkewCheck:
    """Whether the features are like those in a training set; bad and rows are numbers of features."""
    notable, compared = unlike(view.features, trained.statistics, served)
    of = f"training set {trained.name}"
    if notable:
        shown = "; ".join(f"{name}: {said}" for name, said in list(notable.items())[:_SAID])
        more = f"; and {len(notable) - _SAID} more" if len(notable) > _SAID else ""
        said = f"{view.ref}: {len(notable)} of {compared} features are served otherwise than they are in {of}: {shown}{more}"
        return SkewCheck(TRAINING, Level.WARNING, len(notable), compared, said)
    if not compared:
        return SkewCheck(TRAINING, Level.INSUFFICIENT_DATA, 0, 0, f"{view.ref}: too few rows were served, or are in {of}, to compare them")
    return SkewCheck(TRAINING, Level.PASSED, 0, compared, f"{view.ref}: {compared} features are served as they are in {of}")
