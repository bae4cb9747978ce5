"""Feast's tables in Cassandra, filled; run by the peers' Python:  feast_fill.py REPO CQL_PORT ENTITIES

The rows are those Feast's own `materialize` would write (its key serialization, its value protos, a row per feature); only
the driver is another, because Feast's takes minutes per thousand entities. One view after the other, as in Feast.
"""

import asyncio
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import acsylla
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64
from feast.value_type import ValueType

VIEWS, WIDTH = 5, 10
CONF = """project: bench
registry: {{path: data/registry.db, cache_ttl_seconds: 300, cache_mode: thread}}
provider: local
offline_store: {{type: file}}
online_store:
  type: cassandra
  hosts: [127.0.0.1]
  port: {port}
  keyspace: feast
  protocol_version: 4
  load_balancing: {{local_dc: dc1, load_balancing_policy: "TokenAwarePolicy(DCAwareRoundRobinPolicy)"}}
  read_concurrency: 100
  write_concurrency: 100
entity_key_serialization_version: 3
"""


def apply(repo: Path, port: int, count: int = VIEWS, source_file: str = "data/none.parquet") -> FeatureStore:
    """A Feast repository with `count` views, all over one file, and their tables."""
    (repo / "data").mkdir(parents=True, exist_ok=True)
    (repo / "feature_store.yaml").write_text(CONF.format(port=port))
    os.chdir(repo)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    source = FileSource(path=source_file, timestamp_field="event_timestamp")
    views = [
        FeatureView(
            name=f"view_50_{n}",
            entities=[user],
            ttl=timedelta(days=365),
            schema=[Field(name=f"f{n}_{k}", dtype=Float64) for k in range(WIDTH)],
            source=source,
        )
        for n in range(count)
    ]
    store = FeatureStore(str(repo))
    store.registry.apply_entity(user, "bench")
    for view in views:
        store.registry.apply_feature_view(view, "bench")
    store.registry.apply_feature_service(FeatureService(name="user_features_50", features=views), "bench")
    store.registry.commit()
    store._get_provider().update_infra("bench", [], views, [], [user], partial=False)
    return store


async def fill(port: int, entities: int) -> None:
    cluster = acsylla.create_cluster(["127.0.0.1"], port=port, log_level="critical", request_timeout=20)
    session = await cluster.create_session()
    for n in range(VIEWS):
        await fill_view(session, n, entities)
    await session.close()


async def fill_view(session: acsylla.Session, n: int, entities: int) -> None:
    table = f'"feast"."bench_view_50_{n}"'
    put = await session.create_prepared(f"INSERT INTO {table} (feature_name, value, entity_key, event_ts) VALUES (?, ?, ?, ?)")
    numbers, users, now = random.Random(n), iter(range(entities)), datetime.now(UTC)

    async def work() -> None:
        for user in users:
            key = serialize_entity_key(EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=user)]), 3).hex()
            at = now - timedelta(seconds=numbers.randrange(3600))
            batch = acsylla.create_batch_unlogged()
            for k in range(WIDTH):
                value = Value(double_val=round(numbers.gauss(0, 100), 6)).SerializeToString()
                batch.add_statement(put.bind([f"f{n}_{k}", value, key, at]))
            await session.execute_batch(batch)

    await asyncio.gather(*(work() for _ in range(64)))


async def keyspace(port: int) -> None:
    cluster = acsylla.create_cluster(["127.0.0.1"], port=port, log_level="critical")
    session = await cluster.create_session()
    replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}"
    await session.execute(acsylla.create_statement(f"CREATE KEYSPACE IF NOT EXISTS feast WITH replication = {replication}", timeout=60))
    await session.close()


if __name__ == "__main__":
    folder, cql_port, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    asyncio.run(keyspace(cql_port))
    apply(folder, cql_port)
    asyncio.run(fill(cql_port, count))
