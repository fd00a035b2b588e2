"""Ottla: a replicated event-streaming cluster in Python that speaks Kafka."""

__version__ = "0.1.0.dev0"
