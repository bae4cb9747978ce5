"""Whether this cluster orders writes by our tokens, tried with one row that is removed again."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from penstock.config import Settings
from penstock.errors import StoreError
from penstock.online.cassandra.failures import typed_errors
from penstock.online.cassandra.schema import CONTROL_TABLES, tables_of
from penstock.online.cassandra.session import Session, open_session
from penstock.online.cassandra.statements import INTENT, PROBE_DELETE, PROBE_PUT
from penstock.online.codec import write_token

_HINT = "ScyllaDB: set restrict_future_timestamp to false; Cassandra: leave maximum_timestamp_fail_threshold unset; see docs/cassandra.md"


async def probe_write_tokens(contact_points: Sequence[str], port: int, settings: Settings, now_us: int) -> bool:
    """Write a row at the token of now, then one at an older token, and read; False: there is no table yet to try it in.

    The row is among the intents, of a view that cannot be; it is removed by a delete at a later token.

    Args:
        contact_points, port, settings: as of a store.
        now_us: microseconds since 1970; no newer event time than this is published.

    Raises:
        StoreError: the token is refused, or does not decide; or the role may not write.
        StoreUnavailable: Cassandra did not answer.
        ConfigError: as of a store.
    """
    session = await open_session(contact_points, port, settings)
    try:
        with typed_errors(session.failure, "reading the schema"):
            if not CONTROL_TABLES.keys() <= await tables_of(session, settings.cassandra.keyspace):
                return False
        async with asyncio.timeout(settings.cassandra.request_timeout_s * 4):
            await _probe(session, settings.cassandra.keyspace, now_us)
        return True
    except TimeoutError:
        raise StoreError("trying write tokens: Cassandra did not answer in time") from None
    finally:
        await session.close()


async def _probe(session: Session[Any], keyspace: str, now_us: int) -> None:
    view, token = f"penstock doctor {uuid4()}", write_token(now_us, 1)
    with typed_errors(session.failure, "preparing statements"):
        put, delete, read = [await session.prepare(cql.format(keyspace=keyspace)) for cql in (PROBE_PUT, PROBE_DELETE, INTENT)]
    try:
        with typed_errors(session.failure, f"writing at token {token}"):
            await session.execute(put, (view, b"newer", token))
            await session.execute(put, (view, b"older", token - 1))
    except StoreError as error:
        raise type(error)(error.message, hint=error.hint or _HINT) from error
    with typed_errors(session.failure, "reading what was written"):
        kept = [value for value, _ in await session.execute(read, (view, 0, 0))]
        await session.execute(delete, (token + 1, view))
        left = await session.execute(read, (view, 0, 0))
    if kept != [b"newer"] or left:
        raise StoreError(
            f"of writes at tokens {token} and {token - 1} this cluster keeps {kept}, and {left} after a delete at {token + 1}:"
            " it does not order writes by their timestamps",
            hint="publish to Apache Cassandra, or to ScyllaDB with restrict_future_timestamp: false; see docs/cassandra.md",
        )
