"""What becomes of a joined tile before it is written: rows are left out and counted, split, hashed and described.

It runs where the tile was joined. What tiles tell is added up: no second pass over the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.clock import to_micros
from penstock.errors import SpineError
from penstock.offline.content import Content, content_of, differ
from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.training_set.labels import Label, unknown_labels
from penstock.training_set.split import Split, with_split

Condition: TypeAlias = tuple[str, str, Any]
"""Column, one of `= != < <= > >= in not in`, and a value: as in pyarrow's `filters`."""


class Summary(msgspec.Struct, kw_only=True):
    """What is known of some finished rows.

    Args:
        seen, rows: that were joined, and that were kept.
        content, spine_content: sums of the hashes of all columns, and of the spine's.
        excluded: reason → rows left out.
        leaks: feature → rows in which mode `event` would have given another value.
        live: view's name → rows at or after its `live_since`.
        statistics: column → what its values are like.
    """

    seen: int
    rows: int
    content: tuple[int, int]
    spine_content: tuple[int, int]
    excluded: dict[str, int]
    leaks: dict[str, int]
    live: dict[str, int]
    statistics: dict[str, ColumnStatistics]


@dataclass(frozen=True)
class Finish:
    """Finishes one tile.

    Args:
        spine_columns, features: the columns of the rows.
        labels, cutoff: rows with a label that was not known by then are left out.
        where: rows that do not meet all of these are left out.
        split, seed, strata: the split, if there is one.
        live_since: view's name → when it went live.
        beside: feature → the column that holds what mode `event` would have given: it is compared, and not kept.
    """

    spine_columns: tuple[str, ...]
    features: tuple[str, ...]
    labels: tuple[Label, ...]
    cutoff: datetime
    where: tuple[Condition, ...]
    split: Split | None
    seed: int
    strata: Mapping[object, int]
    live_since: Mapping[str, datetime]
    beside: Mapping[str, str]

    def __call__(self, rows: pa.Table) -> tuple[pa.Table, str]:
        """The rows to keep, and what is known of them, as JSON."""
        seen = rows.num_rows
        rows, excluded = self._kept(rows)
        leaks = {name: int(differ(rows[name], rows[other]).sum()) for name, other in self.beside.items()}
        rows = rows.drop_columns(list(self.beside.values())) if self.beside else rows
        if self.split is not None:
            rows = with_split(rows, self.split, self.spine_columns, self.seed, self.strata)
        content, of_spine = content_of(rows), content_of(rows, self.spine_columns)
        summary = Summary(
            seen=seen,
            rows=rows.num_rows,
            content=content.sums,
            spine_content=of_spine.sums,
            excluded=excluded,
            leaks=leaks,
            live={name: _at_or_after(rows["event_time"], since) for name, since in self.live_since.items()},
            statistics=statistics_of(rows, [*self.features, *(label.column for label in self.labels)]),
        )
        return rows, msgspec.json.encode(summary).decode()

    def _kept(self, rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
        unknown = unknown_labels(rows, self.labels, self.cutoff)
        excluded = {f"label {name} not known at the cut-off": int(of_rows.sum()) for name, of_rows in unknown.items()}
        if unknown:
            rows = rows.filter(pa.array(~np.logical_or.reduce(list(unknown.values()))))
        if self.where:
            kept = rows.filter(pq.filters_to_expression([list(self.where)]))
            excluded["filtered"] = rows.num_rows - kept.num_rows
            rows = kept
        return rows, excluded


def summed(parts: Sequence[str]) -> tuple[Content, Content, Summary]:
    """All tiles together: the content of the rows, that of the spine's columns, and the rest."""
    found = [msgspec.json.decode(part, type=Summary) for part in parts]
    content, of_spine = Content(), Content()
    excluded: dict[str, int] = {}
    live: dict[str, int] = {}
    leaks: dict[str, int] = {}
    for one in found:
        content, of_spine = content + Content(one.rows, one.content), of_spine + Content(one.rows, one.spine_content)
        for total, counts in ((excluded, one.excluded), (live, one.live), (leaks, one.leaks)):
            for name, n in counts.items():
                total[name] = total.get(name, 0) + n
    together = Summary(
        seen=sum(one.seen for one in found),
        rows=content.rows,
        content=content.sums,
        spine_content=of_spine.sums,
        excluded=excluded,
        leaks=leaks,
        live=live,
        statistics=merged([one.statistics for one in found]),
    )
    return content, of_spine, together


def check_where(schema: pa.Schema, where: Sequence[Condition]) -> None:
    """Refuse conditions that the rows cannot be asked.

    Raises:
        SpineError: a column is missing, or its type cannot be compared with the value.
    """
    for condition in where:
        if len(condition) != 3 or condition[0] not in schema.names:
            raise SpineError(f"filter {condition!r}: expected (column, operator, value) with one of {', '.join(schema.names)}")
        try:
            empty = schema.empty_table().filter(pq.filters_to_expression([[condition]]))
            assert not empty.num_rows
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise SpineError(f"filter {condition!r}: {str(error).partition(chr(10))[0]}") from None


def _at_or_after(times: pa.ChunkedArray, since: datetime) -> int:
    limit = pa.scalar(to_micros(since), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pc.sum(pc.greater_equal(times, limit)).as_py() or 0
