"""On-demand views in a join: computed, tile by tile, from the features just attached and the spine's own columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.contract.on_demand import OnDemandView
from penstock.dtypes import spark_type
from penstock.errors import FunctionError, SpineError
from penstock.offline.arrow import arrow_type
from penstock.point_in_time.view_join import ViewJoin
from penstock.request_time import NUMPY_TYPES, Column, Computed, RequestFunction, unknowable

_APART = 1e-6  # relative: numpy may round a sum of one otherwise than of many, and float32 has 7 digits


@dataclass(frozen=True)
class OnDemandJoin:
    """What is attached of an on-demand view; plain values only, for it crosses to workers.

    Args:
        function: computes it.
        columns: what the function takes → the joined rows' column that holds it.
        request: the columns of the spine among these, with their dtypes.
        names: what its features are called, in order.
    """

    function: RequestFunction
    columns: Mapping[str, str]
    request: Mapping[str, str]
    names: tuple[str, ...]

    @property
    def fields(self) -> list[pa.Field]:
        """The columns it adds."""
        return [pa.field(name, arrow_type(dtype)) for name, (_, dtype) in zip(self.names, self.function.gives, strict=True)]

    def append(self, rows: pa.Table) -> pa.Table:
        """Rows with its features.

        Raises:
            FunctionError: the function fails, see `request_time`, or gives a row other values alone than among others.
        """
        columns = {name: _column(rows[self.columns[name]], dtype) for name, dtype in self.function.takes}
        unusable = np.zeros(rows.num_rows, np.bool_)
        for column in columns.values():
            unusable |= unknowable(column)
        found = self.function(columns, unusable)
        # Three rows of each tile once more by themselves: that is enough to find a function that looks at others.
        for place in {0, rows.num_rows // 2, rows.num_rows - 1} if rows.num_rows > 1 else ():
            one = slice(place, place + 1)
            alone = self.function({name: Column(c.values[one], c.null[one]) for name, c in columns.items()}, unusable[one])
            self._require_same(found, alone, place)
        for field, computed in zip(self.fields, found, strict=True):
            rows = rows.append_column(field, _arrow(computed, field.type))
        return rows

    def _require_same(self, among: Sequence[Computed], alone: Sequence[Computed], place: int) -> None:
        for name, many, one in zip(self.names, among, alone, strict=True):
            value, by_itself = many.values[place], one.values[0]
            same = np.isclose(value, by_itself, rtol=_APART) if many.values.dtype.kind == "f" else value == by_itself
            if not same or many.null[place] != one.null[0]:
                raise FunctionError(
                    f"on-demand view {self.function.view}, function {self.function.source.name}: '{name}' of a row is"
                    f" {None if one.null[0] else by_itself} by itself and {None if many.null[place] else value} among other rows",
                    hint="a function may use nothing but a row's own columns: the gateway is asked for one row as for many",
                )


def on_demand_joins(views: Sequence[OnDemandView], joins: Sequence[ViewJoin]) -> list[OnDemandJoin]:
    """What is attached of some on-demand views, beside the views they take from."""
    held = {f"{one.name}__{feature}": one.column(feature) for one in joins for feature in one.features}
    full = all(one.full_names for one in joins)
    return [
        OnDemandJoin(
            function=RequestFunction(
                view=view.ref,
                source=view.function,
                takes=view.columns,
                gives=tuple((f.name, f.dtype) for f in view.features),
                handles_nulls=view.handles_nulls,
            ),
            columns={**{name: held[name] for name, _ in view.taken}, **{name: name for name in view.request}},
            request=dict(view.request),
            names=tuple(f"{view.name}__{f.name}" if full else f.name for f in view.features),
        )
        for view in views
    ]


def check_on_demand(seen: Mapping[str, str], joins: Sequence[ViewJoin], on_demand: Sequence[OnDemandJoin]) -> None:
    """Refuse a spine without what the functions take of it.

    Args:
        seen: the spine's column → its type, as Spark names it.
        joins: the views whose columns are there as well.
        on_demand: what is computed.

    Raises:
        SpineError: a request field is missing or has another type, or a column would be written twice.
    """
    taken = {*seen, *(column for one in joins for column in one.columns)}
    for one in on_demand:
        for name, dtype in one.request.items():
            if seen.get(name) != spark_type(dtype):
                raise SpineError(
                    f"request field '{name}' of {one.function.view} is {seen.get(name, 'missing')} in the spine, expected"
                    f" {spark_type(dtype)}; the spine has {', '.join(seen)}",
                    hint="give the spine what a caller would send: the value as it was known at event_time",
                )
        for column in one.names:
            if column in taken:
                raise SpineError(
                    f"column '{column}' of {one.function.view} would be written twice",
                    hint="rename it in the spine, or join with full feature names",
                )
            taken.add(column)


def appended(rows: pa.Table, on_demand: Sequence[OnDemandJoin], order: Sequence[str]) -> pa.Table:
    """Joined rows with what is computed of them: these columns, in this order."""
    for one in on_demand:
        rows = one.append(rows)
    return rows.select(list(order)) if on_demand else rows


def appending(on_demand: Sequence[OnDemandJoin], schema: pa.Schema) -> Callable[..., Iterator[pa.RecordBatch]]:
    """Spark's batches of joined rows → the same with what is computed of them, in this schema."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from appended(pa.Table.from_batches([batch]), on_demand, schema.names).cast(schema).to_batches()

    return run


def _column(values: pa.ChunkedArray, dtype: str) -> Column:
    null = np.asarray(values.is_null())
    if dtype == "string":
        return Column(np.array(values.fill_null("").to_pylist(), NUMPY_TYPES[dtype]), null)
    if dtype == "timestamp":
        micros: Any = values.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).fill_null(0).to_numpy()
        return Column(micros.view(NUMPY_TYPES[dtype]), null)
    return Column(values.fill_null(False if dtype == "bool" else 0).to_numpy().astype(NUMPY_TYPES[dtype], copy=False), null)


def _arrow(computed: Computed, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array(
            [None if null else value for value, null in zip(computed.values.tolist(), computed.null.tolist(), strict=True)], kind
        )
    if pa.types.is_timestamp(kind):
        return pa.array(computed.values.view(np.int64), pa.int64(), mask=computed.null).cast(kind)
    return pa.array(computed.values, kind, mask=computed.null)
