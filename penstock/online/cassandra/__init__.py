"""The online store on Apache Cassandra; the only place that knows Cassandra's drivers."""

from penstock.online.cassandra.store import CassandraStore

__all__ = ["CassandraStore"]
