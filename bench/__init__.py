"""Ottla beside Apache Kafka: the same clients, the same machine, the same run."""
