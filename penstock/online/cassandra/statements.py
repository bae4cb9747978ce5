"""Statements on data, prepared once: each is idempotent, because each write carries its own timestamp."""

from dataclasses import dataclass
from typing import Generic, Self

from penstock.online.cassandra.schema import entity_table
from penstock.online.cassandra.session import P, Session

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

# Keep how far a fill is complete. Each counts on from the timestamp of the one before, as an intent does.
SET_WATERMARK = """
    INSERT INTO {keyspace}.watermarks (feature_view, version, generation, complete_until) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"""

# How far the fills of a view version are complete, with the timestamps.
WATERMARKS = """
    SELECT generation, complete_until, WRITETIME(complete_until) FROM {keyspace}.watermarks WHERE feature_view = ? AND version = ?"""

# Keep what a publication is about to write. Publications of a view are serial, and each counts on from the timestamp of the one before:
# by the machine's time one after a step back would be lost.
INTEND = "INSERT INTO {keyspace}.intents (feature_view, version, generation, intent) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"

# What the publication that was begun last was about to write, and its timestamp.
INTENT = "SELECT intent, WRITETIME(intent) FROM {keyspace}.intents WHERE feature_view = ? AND version = ? AND generation = ?"

# Keep what an invalidation mark covers; it never changes.
PUT_MARK = "INSERT INTO {keyspace}.marks (shelf, id, mark) VALUES (?, ?, ?)"

# Set one of its times. The timestamp is minus the time: set again, the earliest stands.
LIFT_MARK = "INSERT INTO {keyspace}.marks (shelf, id, lifted_at) VALUES (?, ?, ?) USING TIMESTAMP ?"
EXCLUDE_MARK = "INSERT INTO {keyspace}.marks (shelf, id, excluded_at) VALUES (?, ?, ?) USING TIMESTAMP ?"
RESTORE_MARK = "INSERT INTO {keyspace}.marks (shelf, id, restored_at) VALUES (?, ?, ?) USING TIMESTAMP ?"

# All marks.
MARKS = "SELECT mark, lifted_at, excluded_at, restored_at FROM {keyspace}.marks WHERE shelf = ?"

# What `penstock doctor` writes and removes again, at tokens such as values are written at.
PROBE_PUT = """
    INSERT INTO {keyspace}.intents (feature_view, version, generation, intent) VALUES (?, 0, 0, ?) USING TIMESTAMP ?"""
PROBE_DELETE = """
    DELETE FROM {keyspace}.intents USING TIMESTAMP ? WHERE feature_view = ? AND version = 0 AND generation = 0"""

# Keep a snapshot; the same fingerprint always has the same document.
PUT_SNAPSHOT = "INSERT INTO {keyspace}.snapshots (fingerprint, document) VALUES (?, ?)"

# One snapshot.
SNAPSHOT = "SELECT document FROM {keyspace}.snapshots WHERE fingerprint = ?"

# Set what a service reads; an older change never replaces a newer one.
SET_POINTERS = "INSERT INTO {keyspace}.services (shelf, service, pointers) VALUES (?, ?, ?) USING TIMESTAMP ?"

# What every service reads, by name.
POINTERS = "SELECT pointers FROM {keyspace}.services WHERE shelf = ?"


@dataclass(frozen=True)
class EntityStatements(Generic[P]):
    """Statements on one entity's table."""

    read: P
    read_keys: P
    put: P
    delete: P

    @classmethod
    async def of(cls, session: Session[P], keyspace: str, entity: str) -> Self:
        table = entity_table(entity)
        prepared = [await session.prepare(cql.format(keyspace=keyspace, table=table)) for cql in (READ, READ_KEYS, PUT, DELETE)]
        return cls(*prepared)


@dataclass(frozen=True)
class ControlStatements(Generic[P]):
    """Statements on the control tables."""

    record: P
    publications: P
    set_watermark: P
    watermarks: P
    intend: P
    intent: P
    put_snapshot: P
    snapshot: P
    set_pointers: P
    pointers: P
    put_mark: P
    marks: P
    lift_mark: P
    exclude_mark: P
    restore_mark: P

    @classmethod
    async def of(cls, session: Session[P], keyspace: str) -> Self:
        values = (RECORD, PUBLICATIONS, SET_WATERMARK, WATERMARKS, INTEND, INTENT, PUT_SNAPSHOT, SNAPSHOT, SET_POINTERS, POINTERS)
        texts = (*values, PUT_MARK, MARKS, LIFT_MARK, EXCLUDE_MARK, RESTORE_MARK)
        return cls(*[await session.prepare(text.format(keyspace=keyspace)) for text in texts])
