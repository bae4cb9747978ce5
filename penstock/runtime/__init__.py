"""What Penstock needs around it, found or started here: Java, jars, a Spark session, an embedded Cassandra node."""
