"""Statements on data, prepared once: each is idempotent, because each write carries its own timestamp."""

from dataclasses import dataclass
from typing import Any, Self

import acsylla

from penstock.online.cassandra.failures import typed_errors
from penstock.online.cassandra.schema import entity_table

_PAGE_ROWS = 5000

READING = "reading"
"""The driver's profile of statements that read values: see `store.connect`."""

# One key's values in the slots named; other views, versions and generations of the key stay unread.
READ = """
    SELECT key, feature_view, version, generation, value FROM {keyspace}.{table}
    WHERE key = ? AND (feature_view, version, generation) IN ?"""

# The same of several keys: a third of the client's work per key and two thirds of the node's (ADR 0015).
READ_KEYS = """
    SELECT key, feature_view, version, generation, value FROM {keyspace}.{table}
    WHERE key IN ? AND (feature_view, version, generation) IN ?"""

# Put a value at its token: of two, the greater wins whenever it arrives.
PUT = """
    INSERT INTO {keyspace}.{table} (key, feature_view, version, generation, value)
    VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"""

# Delete a value at its token: never without one, or the machine's time would hide all later writes.
DELETE = """
    DELETE FROM {keyspace}.{table} USING TIMESTAMP ?
    WHERE key = ? AND feature_view = ? AND version = ? AND generation = ?"""

# Add a ledger row. Its timestamp is minus `readable_at`: recorded again, the earliest time stands,
# because from then on readers could see the attempt.
RECORD = """
    INSERT INTO {keyspace}.ledger
    (feature_view, version, generation, partition_day, attempt, complete_until, readable_at, run_id, keys)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"""

# All ledger rows of one view version, in order of generation, day and attempt.
PUBLICATIONS = """
    SELECT generation, partition_day, attempt, complete_until, readable_at, run_id, keys
    FROM {keyspace}.ledger WHERE feature_view = ? AND version = ?"""

# Keep what a publication is about to write. Publications of a view are serial, so the newest is the last one begun.
INTEND = "INSERT INTO {keyspace}.intents (feature_view, version, generation, intent) VALUES (?, ?, ?, ?)"

# What the publication that was begun last was about to write.
INTENT = "SELECT intent FROM {keyspace}.intents WHERE feature_view = ? AND version = ? AND generation = ?"

# Keep a snapshot; the same fingerprint always has the same document.
PUT_SNAPSHOT = "INSERT INTO {keyspace}.snapshots (fingerprint, document) VALUES (?, ?)"

# One snapshot.
SNAPSHOT = "SELECT document FROM {keyspace}.snapshots WHERE fingerprint = ?"

# Set what a service reads; an older change never replaces a newer one.
SET_POINTERS = "INSERT INTO {keyspace}.services (shelf, service, pointers) VALUES (?, ?, ?) USING TIMESTAMP ?"

# What every service reads, by name.
POINTERS = "SELECT pointers FROM {keyspace}.services WHERE shelf = ?"


@dataclass(frozen=True)
class Prepared:
    """A prepared statement."""

    statement: acsylla.PreparedStatement
    paged: bool
    profile: str | None = None

    def bind(self, *values: Any) -> acsylla.Statement:
        """The statement with its values, ready to execute; safe to send twice."""
        bound: acsylla.Statement = self.statement.bind(
            list(values), page_size=_PAGE_ROWS if self.paged else None, execution_profile=self.profile
        )
        bound.set_is_idempotent(True)
        return bound


async def prepare(session: acsylla.Session, cql: str, *, paged: bool = False, profile: str | None = None, **names: str) -> Prepared:
    """`cql` prepared, its names filled in."""
    with typed_errors("preparing a statement"):
        return Prepared(await session.create_prepared(cql.format(**names)), paged, profile)


@dataclass(frozen=True)
class EntityStatements:
    """Statements on one entity's table."""

    read: Prepared
    read_keys: Prepared
    put: Prepared
    delete: Prepared

    @classmethod
    async def of(cls, session: acsylla.Session, keyspace: str, entity: str) -> Self:
        table = entity_table(entity)

        async def on_table(cql: str, profile: str | None = None) -> Prepared:
            return await prepare(session, cql, profile=profile, keyspace=keyspace, table=table)

        return cls(
            read=await on_table(READ, READING),
            read_keys=await on_table(READ_KEYS, READING),
            put=await on_table(PUT),
            delete=await on_table(DELETE),
        )


@dataclass(frozen=True)
class ControlStatements:
    """Statements on the control tables."""

    record: Prepared
    publications: Prepared
    intend: Prepared
    intent: Prepared
    put_snapshot: Prepared
    snapshot: Prepared
    set_pointers: Prepared
    pointers: Prepared

    @classmethod
    async def of(cls, session: acsylla.Session, keyspace: str) -> Self:
        return cls(
            record=await prepare(session, RECORD, keyspace=keyspace),
            publications=await prepare(session, PUBLICATIONS, paged=True, keyspace=keyspace),
            intend=await prepare(session, INTEND, keyspace=keyspace),
            intent=await prepare(session, INTENT, keyspace=keyspace),
            put_snapshot=await prepare(session, PUT_SNAPSHOT, keyspace=keyspace),
            snapshot=await prepare(session, SNAPSHOT, keyspace=keyspace),
            set_pointers=await prepare(session, SET_POINTERS, keyspace=keyspace),
            pointers=await prepare(session, POINTERS, paged=True, keyspace=keyspace),
        )
