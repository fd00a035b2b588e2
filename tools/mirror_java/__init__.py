"""Java's view of a mirror: RemoteClusterUtils of Apache Kafka reads what ours has written."""
