"""Partitions on the command line."""

from typing import TYPE_CHECKING

from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import TopicPartition


def parse_partition(text: str) -> "TopicPartition":
    """`TOPIC:PARTITION`; raises ConfigError."""
    from ottla.client import TopicPartition

    topic, _, number = text.rpartition(":")
    if not topic or not number.isdecimal():
        raise ConfigError(f"{text}: write TOPIC:PARTITION, e.g. orders:0")
    return TopicPartition(topic, int(number))
