"""An entity of a request as the key of the online store."""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import date

from penstock.clock import parse_instant
from penstock.errors import InvalidEntity
from penstock.online.codec import encode_key

_HINT = "give every join key of the service with a value of its type; GET /v1/services/<service> lists them"
_TEXTS = {
    "timestamp": "ISO 8601 with an offset, e.g. '2013-01-01T12:00:00Z'",
    "date": "ISO 8601, e.g. '2013-01-01'",
    "binary": "base64, e.g. '3q2+7w=='",
}
_FINER_THAN_MICROSECONDS = re.compile(r"[.,]\d{7,}")


def require_known_keys(entity: Mapping[str, object], position: int, join_keys: Mapping[str, str], request: Mapping[str, str]) -> None:
    """Refuse an entity that names what is neither join key nor request field of the service: a misspelt one must not be ignored.

    Raises:
        InvalidEntity: names the key and those there are.
    """
    unknown = () if entity.keys() <= join_keys.keys() else [name for name in entity if name not in join_keys and name not in request]
    if unknown:
        what = "join key or request field" if request else "join key"
        expected = ", ".join(f"'{name}' ({dtype})" for name, dtype in {**request, **join_keys}.items())
        raise InvalidEntity(
            f"entity {position}: {', '.join(map(repr, unknown))} is no {what} of this service; it has {expected}", hint=_HINT
        )


def key_of(entity: Mapping[str, object], position: int, join_keys: Sequence[tuple[str, str]]) -> bytes | None:
    """The bytes of the entity's key; None where a join key is null, which is nobody's, as in a join offline.

    Args:
        entity: join key → value as JSON gave it; a timestamp is ISO 8601 text with an offset, a date is ISO 8601 text
            without a time, and binary is base64.
        position: which entity of the request, from 0, for messages.
        join_keys: name and dtype, in the order they are encoded.

    Raises:
        InvalidEntity: a join key is missing or of another type.
    """
    try:
        values = [entity[name] for name, _ in join_keys]
    except KeyError:
        missing = [f"'{name}' ({dtype})" for name, dtype in join_keys if name not in entity]
        raise InvalidEntity(f"entity {position}: {len(missing)} missing join key(s): {', '.join(missing)}", hint=_HINT) from None
    if None in values:
        for part, value in zip(join_keys, values, strict=True):
            if value is not None:  # what stands beside the null is of its type, all the same
                key_of({part[0]: value}, position, [part])
        return None
    values = [
        typed(name, dtype, value, position) if dtype in _TEXTS else value for (name, dtype), value in zip(join_keys, values, strict=True)
    ]
    try:
        return encode_key(join_keys, values)
    except InvalidEntity as error:
        raise InvalidEntity(f"entity {position}: {error.message}", hint=_HINT) from None


def typed(name: str, dtype: str, value: object, position: int, what: str = "join key") -> object:
    """A value as JSON gave it, where its dtype is one that JSON tells as text; any other as it is.

    Raises:
        InvalidEntity: the text is none of that dtype.
    """
    if dtype not in _TEXTS or type(value) is not str:
        return value
    try:
        if dtype == "binary":
            return b64decode(value, validate=True)
        if dtype == "date":
            return date.fromisoformat(value)
        if _FINER_THAN_MICROSECONDS.search(value):
            raise ValueError("finer than microseconds")  # fromisoformat would cut it, and two keys become one
        return parse_instant(value)
    except (ValueError, OverflowError):
        raise InvalidEntity(
            f"entity {position}: {what} '{name}' is {dtype}, got {value[:80]!r}; expected {_TEXTS[dtype]}",
            hint=_HINT,
        ) from None
