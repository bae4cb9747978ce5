"""The types of features and join keys in Arrow."""

import pyarrow as pa

from penstock.dtypes import element, is_list

_TYPES = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "binary": pa.binary(),
}


def arrow_type(dtype: str) -> pa.DataType:
    """The Arrow type of `dtype`."""
    return pa.list_(_TYPES[element(dtype)]) if is_list(dtype) else _TYPES[dtype]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type features have for what other writers store as large strings or as views of strings; other types as they are."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain(rows: pa.Table) -> pa.Table:
    """The same rows in the types features have."""
    schema = plain_schema(rows.schema)
    return rows if schema.types == rows.schema.types else rows.cast(schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns in the types features have."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])
