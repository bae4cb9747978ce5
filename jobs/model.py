"""What careless training data costs: one model, trained on what was known too early and on what could be known.

The question is the demo's: will this flight arrive more than 15 minutes late? The last quarter of the days is for testing.
A model trained on mode `event` is tested twice: on rows joined the same careless way, as its maker would see it, and on the
same rows as they would have been served.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

LABEL = "late"
_KEY = "flight_id"
_TESTED = 0.25


class Score(NamedTuple):
    """AUC of a model: on rows made as its training rows were, and on rows as they would have been served."""

    mode: str
    offline: float
    served: float


def scores(careless: pa.Table, honest: pa.Table, features: Sequence[str], modes: tuple[str, str]) -> list[Score]:
    """A score for each way of making training data.

    Args:
        careless, honest: the same flights under two modes, with `flight_id`, `event_time` and `late`.
        features: the columns to learn from; those that are no numbers are left out.
        modes: their names.
    """
    order = [(_KEY, "ascending"), ("event_time", "ascending")]
    tables = [rows.filter(pc.is_valid(rows[LABEL])).sort_by(order) for rows in (careless, honest)]
    kinds = {name: honest.schema.field(name).type for name in features}
    numbers = [name for name, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)]
    labels = tables[1][LABEL].to_numpy().astype(np.int64)
    times = tables[1]["event_time"].cast(pa.int64()).to_numpy()
    tested = times >= np.quantile(times, 1 - _TESTED)
    columns = [_matrix(table, numbers) for table in tables]
    found = []
    for mode, own in zip(modes, columns, strict=True):
        model = HistGradientBoostingClassifier(random_state=0, max_iter=150, learning_rate=0.08)
        model.fit(own[~tested], labels[~tested])
        offline, served = (float(roc_auc_score(labels[tested], model.predict_proba(rows[tested])[:, 1])) for rows in (own, columns[1]))
        found.append(Score(mode, offline, served))
    return found


def _matrix(table: pa.Table, names: Sequence[str]) -> Any:
    return np.column_stack([pc.fill_null(table[name].cast(pa.float64(), safe=False), float("nan")).to_numpy() for name in names])
