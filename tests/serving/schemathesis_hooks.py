"""What schemathesis needs to be told of the gateway."""

from typing import Any

import msgspec
import schemathesis


@schemathesis.deserializer("application/msgpack")
def from_msgpack(_: object, response: schemathesis.Response) -> object:
    return msgspec.to_builtins(msgspec.msgpack.decode(response.content))  # an instant is text there


@schemathesis.hook
def filter_case(_: object, case: Any) -> bool:
    # Requests with a header that is not described are as good as others: proxies add some.
    unknown_header = any(name.lower().startswith("x-schemathesis-unknown") for name in case.headers or ())
    return not unknown_header and not has_whole_float(case.body)


def has_whole_float(body: Any) -> bool:
    """To JSON Schema 7.0 is an integer too; a join key of an integer type it is not."""
    if isinstance(body, dict | list):
        return any(has_whole_float(item) for item in (body.values() if isinstance(body, dict) else body))
    return isinstance(body, float) and body.is_integer()
