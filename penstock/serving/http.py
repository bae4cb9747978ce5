"""ASGI in a few lines: a request's body up to a limit, an answer, an error as a status and JSON."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from random import Random
from typing import Any

import msgspec

from penstock.errors import (
    ContractMismatch,
    InvalidEntity,
    MalformedRequest,
    NotAuthenticated,
    NotAuthorized,
    Overloaded,
    RequestError,
    RequestTooLarge,
    TooManyEntities,
    Unavailable,
    UnknownFeature,
    UnknownService,
    error_code,
)
from penstock.serving.messages import ErrorBody, ErrorDetail

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
MSGPACK = b"application/msgpack"
RETRY_AFTER_S = 1

STATUS: dict[type[RequestError], int] = {
    RequestError: 400,
    MalformedRequest: 400,
    InvalidEntity: 400,
    NotAuthenticated: 401,
    NotAuthorized: 403,
    UnknownService: 404,
    UnknownFeature: 404,
    ContractMismatch: 409,
    RequestTooLarge: 413,
    TooManyEntities: 413,  # the same remedy as a large body: ask for less at once
    Unavailable: 503,
    Overloaded: 503,
}

INTERNAL_ERROR = "internal_error"

_RESERVED, _RESERVED_S = 0.2, 0.01  # of a deadline, and at most: for the answer itself, once the store was waited for

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_random = Random()  # noqa: S311  # ids that nobody need be unable to guess, without asking the system for each

# A client that is still sending cannot read our answer: closing at once would reset the connection.
# So a body over the limit is thrown away as it comes, up to this many times the limit, then cut.
_DRAINED = 8
_DIGITS = 15  # a longer number need not be read to be too large


class Disconnected(Exception):
    """The client went away before it had sent its request."""


class Reply(msgspec.Struct, frozen=True):
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; None if it is not there or not given exactly once."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None


def request_id_of(scope: Scope) -> str:
    """The caller's `X-Request-Id` if it is safe to repeat, else a new one."""
    given = header(scope, b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else f"{_random.getrandbits(64):016x}"


def store_until(scope: Scope, arrived: float, default_ms: int) -> float:
    """Until when, in the time of `arrived`, a request can wait for the store: its `X-Deadline-Ms` counts from when it arrived.

    Raises:
        MalformedRequest: the header is not a positive whole number.
    """
    given = header(scope, b"x-deadline-ms")
    if given is not None and (not given.isdigit() or len(given) > _DIGITS or not int(given)):
        raise MalformedRequest(f"x-deadline-ms is {given[:40].decode('latin-1')!r}", hint="give the milliseconds you can wait, e.g. 25")
    deadline_s = (default_ms if given is None else int(given)) / 1000
    return arrived + deadline_s - min(deadline_s * _RESERVED, _RESERVED_S)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body.

    Raises:
        RequestTooLarge: it is, or says it is, larger than `limit` bytes; never more than that is held.
        Disconnected: the client went away.
    """
    body, seen = bytearray(), 0
    announced = header(scope, b"content-length") or b""
    too_large = announced.isdigit() and (len(announced) > _DIGITS or int(announced) > limit)
    more = True
    while more and seen <= _DRAINED * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        seen += len(chunk)
        too_large = too_large or seen > limit
        if not too_large:
            body += chunk
    if too_large:
        raise RequestTooLarge(f"the request's body is larger than {limit} bytes", hint="split the request")
    return bytes(body)


def headers_of(reply: Reply, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that are sent with a reply."""
    return [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", request_id.encode()),
        *reply.headers,
    ]


async def send_reply(send: Send, reply: Reply, request_id: str) -> None:
    """Send the whole answer."""
    await send({"type": "http.response.start", "status": reply.status, "headers": headers_of(reply, request_id)})
    await send({"type": "http.response.body", "body": reply.body})


def refusal(error: RequestError, request_id: str) -> Reply:
    """The answer to a request that cannot be answered as asked."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, Unavailable):
        headers = ((b"retry-after", str(RETRY_AFTER_S).encode()),)
    elif isinstance(error, NotAuthenticated):
        headers = ((b"www-authenticate", b"Bearer"),)
    return failure(STATUS[type(error)], error_code(type(error)), error.message, request_id, hint=error.hint, headers=headers)


def failure(
    status: int, code: str, message: str, request_id: str, *, hint: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Reply:
    """An answer with an error in it."""
    body = ErrorBody(error=ErrorDetail(code=code, message=message, hint=hint, request_id=request_id))
    return Reply(status, msgspec.json.encode(body), headers=headers)
