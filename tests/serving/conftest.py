"""A real Cassandra node for this folder's tests."""

from tests.online.conftest import cassandra_settings, endpoint

__all__ = ["cassandra_settings", "endpoint"]
