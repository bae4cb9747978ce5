"""The gateway under load beside Feast's feature server, on one Cassandra node."""
