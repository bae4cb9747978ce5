"""Evaluated rows as writes: columns of an Arrow batch become keys, tokens and values.

`write_of` says what the write of one row is; `writes_of` gives the same for a batch, column by column, at a third of
the CPU. What is out of the ordinary is left to `write_of`, so that there is one place that refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.contract.fingerprint import schema_id
from penstock.contract.view import FeatureView
from penstock.dtypes import FLOAT_DTYPES, element, is_list
from penstock.online.codec import (
    KEY_FORMAT,
    MAX_KEY_BYTES,
    PLAIN_VALUE_FORMAT,
    REVISIONS,
    VALUE_FORMAT,
    encode_key,
    encode_value,
    is_plain,
    pack_value,
    part_head,
    write_token,
)
from penstock.online.store import Slot, Write

_GREATEST_EVENT_US = (2**63 - 1) // REVISIONS - 1
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Target:
    """Where the rows of a view go, in plain values: definitions may live in modules that Spark's workers cannot import.

    Args:
        entity: the entity's name.
        join_keys: name and dtype of each join key, in the entity's order.
        features: name and dtype of each feature, in the view's order.
        schema: the view's schema id.
        slot: the fill of the view version.
    """

    entity: str
    join_keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    schema: int
    slot: Slot

    @classmethod
    def of(cls, view: FeatureView, generation: int) -> "Target":
        return cls(
            view.entity.name,
            tuple(view.entity.join_keys.items()),
            tuple((feature.name, feature.dtype) for feature in view.features),
            schema_id(view),
            Slot(view.name, view.version, generation),
        )


def write_of(target: Target, row: Mapping[str, Any]) -> Write:
    """The write of one row of `evaluate.values_to_write`.

    Raises:
        InvalidEntity: a join key is null or too long.
        PublicationError: the row's token or one of its values cannot be stored.
    """
    key = encode_key(target.join_keys, [row[name] for name, _ in target.join_keys])
    token = write_token(row["e_us"], row["revision"])
    if row["event_time_us"] is None:
        return Write(key, target.slot, token, None)
    values = [row["_values"][name] for name, _ in target.features]
    return Write(key, target.slot, token, encode_value(target.schema, row["event_time_us"], row["attempt"], values))


def writes_of(target: Target, batch: pa.RecordBatch) -> list[Write]:
    """The writes of a batch of rows, in their order: what `write_of` gives for each.

    Raises:
        InvalidEntity, PublicationError: as `write_of`.
    """
    keys, tokens = _keys(target, batch), _tokens(batch)
    if keys is None or tokens is None or any(map(_is_naive, batch.column("_values").type)):
        return [write_of(target, row) for row in batch.to_pylist()]
    return [Write(key, target.slot, token, value) for key, token, value in zip(keys, tokens, _values(target, batch), strict=True)]


def _keys(target: Target, batch: pa.RecordBatch) -> list[bytes] | None:
    columns = [batch.column(name) for name, _ in target.join_keys]
    if any(column.null_count for column in columns):
        return None
    head = bytes((KEY_FORMAT,))
    parts = [_key_parts(dtype, column) for (_, dtype), column in zip(target.join_keys, columns, strict=True)]
    if len(parts) == 1:
        keys = [head + part for part in parts[0]]
    else:
        keys = [b"".join((head, *of_row)) for of_row in zip(*parts, strict=True)] if parts else [head] * batch.num_rows
    return None if max(map(len, keys), default=0) > MAX_KEY_BYTES else keys


def _key_parts(dtype: str, column: pa.Array) -> list[bytes]:
    """One part of each key: its head and its payload."""
    match dtype:
        case "string" | "binary":
            return [part_head(dtype, len(payload)) + payload for payload in column.cast(pa.binary()).to_pylist()]
        case "bool":
            return [part_head(dtype, 1) + bytes((value,)) for value in column.to_pylist()]
        case "timestamp":
            numbers = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_numpy()
        case "date":
            numbers = column.cast(pa.int32()).to_numpy().astype(np.int64) + _EPOCH_ORDINAL
        case _:
            numbers = column.to_numpy().astype(np.int64)
    head, payloads = part_head(dtype, 8), numbers.astype(">i8").tobytes()
    return [head + payloads[at : at + 8] for at in range(0, len(payloads), 8)]


def _tokens(batch: pa.RecordBatch) -> list[int] | None:
    newest, revision = batch.column("e_us"), batch.column("revision")
    if not batch.num_rows:
        return []
    if newest.null_count or revision.null_count:
        return None
    events, revisions = newest.to_numpy(), revision.to_numpy().astype(np.int64)
    if events.min() < -_GREATEST_EVENT_US or events.max() > _GREATEST_EVENT_US or revisions.min() < 0 or revisions.max() >= REVISIONS:
        return None
    tokens: list[int] = (events * REVISIONS + revisions).tolist()
    return tokens


def _is_naive(field: pa.Field) -> bool:
    of = field.type.value_type if pa.types.is_list(field.type) else field.type
    return pa.types.is_timestamp(of) and of.tz is None


def _values(target: Target, batch: pa.RecordBatch) -> list[bytes | None]:
    # What Arrow holds of a feature's type is storable: whole numbers have at most 64 bits, times are in UTC, text is Unicode.
    columns = batch.column("_values").flatten()
    plain = _plain(target, columns, batch.num_rows)
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    times, attempts, schema = batch.column("event_time_us").to_pylist(), batch.column("attempt").to_pylist(), target.schema
    return [
        None if event_us is None else pack_value(schema, event_us, attempt, values, PLAIN_VALUE_FORMAT if is_plain_row else VALUE_FORMAT)
        for event_us, attempt, values, is_plain_row in zip(times, attempts, rows, plain, strict=True)
    ]


def _plain(target: Target, columns: Sequence[pa.Array], rows: int) -> list[bool]:
    """Of each row, whether none of its values is null, NaN or infinite."""
    plain = np.ones(rows, dtype=bool)
    for (_, dtype), column in zip(target.features, columns, strict=True):
        if is_list(dtype) and element(dtype) in FLOAT_DTYPES:
            plain &= np.fromiter(map(is_plain, column.to_pylist()), dtype=bool, count=rows)
        elif dtype in FLOAT_DTYPES:
            plain &= pc.fill_null(pc.is_finite(column), False).to_numpy(zero_copy_only=False)
        elif column.null_count:
            plain &= pc.is_valid(column).to_numpy(zero_copy_only=False)
    found: list[bool] = plain.tolist()
    return found
