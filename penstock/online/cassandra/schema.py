"""Tables of the online store, and how they come to be where they are missing.

What exists is looked up first: a reader's role needs no right to create anything, and processes
that start together do not race to create one table, which Cassandra does not take well.
"""

from collections.abc import Sequence

import acsylla

from penstock.config import CassandraSettings
from penstock.online.cassandra.failures import typed_errors

# A schema change waits for all nodes to agree; seconds on a busy cluster.
_SCHEMA_TIMEOUT_S = 60.0

# Everything online of one project. The name comes from settings, which check it.
CREATE_KEYSPACE = """
    CREATE KEYSPACE IF NOT EXISTS {keyspace}
    WITH replication = {{'class': 'NetworkTopologyStrategy', '{local_datacenter}': {replication_factor}}}"""

# Values of one entity: one partition per key, one row per fill of a view version. The value is one
# cell because cells of one row can tear when two writes carry the same timestamp. Compaction L4 keeps
# few files per read; 4 KiB chunks decompress little more than the row asked for.
CREATE_ENTITY_TABLE = """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        key blob, feature_view text, version int, generation int, value blob,
        PRIMARY KEY ((key), feature_view, version, generation))
    WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}}
    AND compression = {{'class': 'LZ4Compressor', 'chunk_length_in_kb': 4}}
    AND gc_grace_seconds = 86400 AND speculative_retry = '8ms' AND bloom_filter_fp_chance = 0.01"""

CONTROL_TABLES = {
    # What became readable when: one partition per view version, so that a batch of rows is atomic.
    "ledger": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        feature_view text, version int, generation int, partition_day date, attempt bigint,
        complete_until bigint, readable_at bigint, run_id text, keys bigint,
        PRIMARY KEY ((feature_view, version), generation, partition_day, attempt))""",
    # What the publication that was begun last is about to write, per fill of a view version.
    "intents": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        feature_view text, version int, generation int, intent blob, PRIMARY KEY ((feature_view, version), generation))""",
    # Registry snapshots by fingerprint; a row never changes.
    "snapshots": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (fingerprint text PRIMARY KEY, document blob)""",
    # What each service reads. All in one partition: gateways look at it every second, and reading
    # one partition is cheaper and more consistent than scanning the ring. One cell, so it cannot tear.
    "services": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        shelf text, service text, pointers blob, PRIMARY KEY ((shelf), service))""",
}


def entity_table(entity: str) -> str:
    """The table that holds an entity's values."""
    return f"online_{entity}"


async def create_control_tables(session: acsylla.Session, settings: CassandraSettings) -> None:
    """Create the keyspace and the control tables that are not there."""
    names = await _column(session, "SELECT keyspace_name FROM system_schema.keyspaces")
    if settings.keyspace not in names:
        await _change(
            session,
            CREATE_KEYSPACE.format(
                keyspace=settings.keyspace, local_datacenter=settings.local_datacenter, replication_factor=settings.replication_factor
            ),
        )
    await _create_missing(session, settings.keyspace, CONTROL_TABLES)


async def create_entity_tables(session: acsylla.Session, keyspace: str, entities: Sequence[str]) -> None:
    """Create the entities' tables that are not there. Names of entities are checked by the contract."""
    await _create_missing(session, keyspace, {entity_table(entity): CREATE_ENTITY_TABLE for entity in entities})


async def _create_missing(session: acsylla.Session, keyspace: str, tables: dict[str, str]) -> None:
    there = await _column(session, "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", keyspace)
    for table, statement in tables.items():
        if table not in there:
            await _change(session, statement.format(keyspace=keyspace, table=table))


async def _column(session: acsylla.Session, query: str, *values: str) -> set[str]:
    with typed_errors("reading the schema"):
        rows = await session.execute(acsylla.create_statement(query, parameters=list(values)))
        return {row.column_value_by_index(0) for row in rows}


async def _change(session: acsylla.Session, statement: str) -> None:
    with typed_errors("changing the schema"):
        await session.execute(acsylla.create_statement(statement, timeout=_SCHEMA_TIMEOUT_S))
