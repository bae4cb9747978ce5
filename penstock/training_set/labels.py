"""Labels that were not known yet: a column whose value counts only from a time that stands in another column."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import to_micros
from penstock.errors import SpineError


@dataclass(frozen=True)
class Label:
    """A label column and the column that says when its value was known.

    Args:
        column: e.g. `late`.
        known_at: e.g. `landed_at`, a timestamp; null: not known yet.
    """

    column: str
    known_at: str


def parse_label(text: str) -> Label:
    """A label from `<column>:<column that says when it was known>`.

    Raises:
        SpineError: it is not one.
    """
    column, _, known_at = text.partition(":")
    if not column.strip() or not known_at.strip():
        raise SpineError(f"label '{text}': expected '<column>:<column that says when it was known>', e.g. 'late:landed_at'")
    return Label(column.strip(), known_at.strip())


def check_labels(schema: pa.Schema, labels: tuple[Label, ...]) -> None:
    """Refuse labels that the spine does not have.

    Raises:
        SpineError: a column is missing, or what should say when it was known is no timestamp with a time zone.
    """
    for label in labels:
        for name in (label.column, label.known_at):
            if name not in schema.names:
                raise SpineError(f"label '{label.column}': the spine has no column '{name}'; it has {', '.join(schema.names)}")
        kind = schema.field(label.known_at).type
        if not pa.types.is_timestamp(kind) or kind.tz is None:
            raise SpineError(f"label '{label.column}': '{label.known_at}' is {kind}, expected timestamp (with a time zone)")


def unknown_labels(rows: pa.Table, labels: tuple[Label, ...], cutoff: datetime) -> dict[str, npt.NDArray[np.bool_]]:
    """Label → for each row, whether its value was not known by the cut-off."""
    limit = pa.scalar(to_micros(cutoff), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return {
        label.column: ~np.asarray(pc.fill_null(pc.less_equal(rows[label.known_at], limit), False))
        | np.asarray(pc.is_null(rows[label.column]))
        for label in labels
    }
