"""The online store on Apache Cassandra; the only place that knows a Cassandra driver."""

from penstock.online.cassandra.store import CassandraStore

__all__ = ["CassandraStore"]
