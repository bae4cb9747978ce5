"""Tables of the online store, and how they come to be where they are missing.

What exists is looked up first: a reader's role needs no right to create anything, and processes
that start together do not race to create one table, which Cassandra does not take well.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from penstock.config import CassandraSettings
from penstock.online.cassandra.failures import NotAllowed, typed_errors
from penstock.online.cassandra.session import Session

# Everything online of one project. The name comes from settings, which check it.
CREATE_KEYSPACE = """
    CREATE KEYSPACE IF NOT EXISTS {keyspace}
    WITH replication = {{'class': 'NetworkTopologyStrategy', {replicas}}}"""

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
    # How far each fill is complete online: what a gateway looks at every second, in place of the ledger, which grows for ever.
    "watermarks": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        feature_view text, version int, generation int, complete_until bigint, PRIMARY KEY ((feature_view, version), generation))""",
    # What the publication that was begun last is about to write, per fill of a view version.
    "intents": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        feature_view text, version int, generation int, intent blob, PRIMARY KEY ((feature_view, version), generation))""",
    # Invalidation marks. All in one partition: gateways look at it every second. Its times are set apart, by whoever does it.
    "marks": """
    CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
        shelf text, id text, mark blob, lifted_at bigint, excluded_at bigint, restored_at bigint, PRIMARY KEY ((shelf), id))""",
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


def ddl(settings: CassandraSettings, entities: Iterable[str]) -> Iterator[str]:
    """Every statement that makes what is online: keyspace, control tables, the entities' tables; each may be run again."""
    yield _keyspace(settings)
    for table, statement in _tables(entities).items():
        yield statement.format(keyspace=settings.keyspace, table=table)


async def create_control_tables(session: Session[Any], settings: CassandraSettings) -> None:
    """Create the keyspace and the control tables that are not there.

    Raises:
        StoreError: one is missing, and the role may not create it.
    """
    keyspace = settings.keyspace
    if keyspace not in await _names(session, "SELECT keyspace_name FROM system_schema.keyspaces"):
        await _create(session, f"keyspace '{keyspace}'", _keyspace(settings))
    await _create_missing(session, keyspace, CONTROL_TABLES)


async def create_entity_tables(session: Session[Any], keyspace: str, entities: Iterable[str]) -> None:
    """Create the entities' tables that are not there. Names of entities are checked by the contract.

    Raises:
        StoreError: one is missing, and the role may not create it.
    """
    await _create_missing(session, keyspace, {entity_table(entity): CREATE_ENTITY_TABLE for entity in entities})


async def tables_of(session: Session[Any], keyspace: str) -> set[str]:
    """The tables there are in a keyspace; none if it is not there."""
    return await _names(session, f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'")  # noqa: S608


def _keyspace(settings: CassandraSettings) -> str:
    replicas = settings.replication or {settings.local_datacenter: settings.replication_factor}
    placed = ", ".join(f"{_text(datacenter)}: {count}" for datacenter, count in replicas.items())
    return CREATE_KEYSPACE.format(keyspace=settings.keyspace, replicas=placed)


def _text(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def _tables(entities: Iterable[str]) -> dict[str, str]:
    return {**CONTROL_TABLES, **{entity_table(entity): CREATE_ENTITY_TABLE for entity in entities}}


async def _create_missing(session: Session[Any], keyspace: str, tables: dict[str, str]) -> None:
    there = await tables_of(session, keyspace)
    for table, statement in tables.items():
        if table not in there:
            await _create(session, f"table '{table}' of keyspace '{keyspace}'", statement.format(keyspace=keyspace, table=table))


async def _names(session: Session[Any], query: str) -> set[str]:
    with typed_errors(session.failure, "reading the schema"):
        return {name for (name,) in await session.query(query)}


async def _create(session: Session[Any], what: str, statement: str) -> None:
    try:
        with typed_errors(session.failure, f"creating {what}"):
            await session.query(statement)
    except NotAllowed as error:
        raise NotAllowed(
            f"{what} is missing, and the role may not create it: {error.message}",
            hint="let somebody who may run what `penstock online ddl` prints, in cqlsh",
        ) from error
