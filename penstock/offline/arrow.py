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
