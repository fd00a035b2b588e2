"""Consensus over opaque bytes: the replicated log of the metadata quorum. Knows nothing of Kafka."""
