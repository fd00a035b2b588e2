"""Kafka's record batches (format v2): the one format on the wire, on disk and between replicas. Pure."""
