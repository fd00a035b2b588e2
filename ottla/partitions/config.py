"""The settings of one partition's log, under the names of Kafka's topic configs.

Names, units and defaults are defined for users where topic configs are; this is the typed form that the log reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from ottla.core.errors import ConfigError
from ottla.records.compression import Compression

NEVER: Final = 2**63 - 1
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Immutable; a change of config swaps the whole object. `-1` means without limit where Kafka says so."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * _DAY_MS
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    flush_messages: int = NEVER
    flush_ms: int = NEVER
    flush_on_ack: bool = True  # ottla.flush.on.ack
    retention_ms: int = 7 * _DAY_MS
    retention_bytes: int = -1
    file_delete_delay_ms: int = 60_000
    cleanup_delete: bool = True  # cleanup.policy contains delete
    cleanup_compact: bool = False  # cleanup.policy contains compact
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = NEVER
    min_cleanable_dirty_ratio: float = 0.5
    delete_retention_ms: int = _DAY_MS
    max_message_bytes: int = 1_048_588
    log_append_time: bool = False  # message.timestamp.type
    message_timestamp_before_max_ms: int = NEVER
    message_timestamp_after_max_ms: int = 3_600_000
    compression: Compression | None = None  # None: compression.type=producer
    compression_level: int | None = None  # of that codec; None: its default
    min_insync_replicas: int = 1
    mirror_source: str = ""  # ottla.mirror.source: only a mirror appends, what that topic of another cluster holds
    mirror_promoting: bool = False  # ottla.mirror.state: and now not even that

    @classmethod
    def from_topic_configs(cls, configs: Mapping[str, str]) -> Self:
        """From Kafka's names (`segment.bytes` …); other topic configs are left alone. ConfigError for a wrong value."""
        values: dict[str, Any] = {}
        for name, text in configs.items():
            try:
                match name:
                    case "cleanup.policy":
                        policies = {policy.strip() for policy in text.split(",") if policy.strip()}
                        for policy in policies:
                            values[_POLICIES[policy]] = True
                        values.setdefault("cleanup_delete", False)
                    case "message.timestamp.type":
                        values["log_append_time"] = {"CreateTime": False, "LogAppendTime": True}[text]
                    case "compression.type":
                        values["compression"] = _compression(text)
                    case "ottla.flush.on.ack":
                        values["flush_on_ack"] = {"true": True, "false": False}[text.lower()]
                    case "ottla.mirror.source":
                        values["mirror_source"] = text
                    case "ottla.mirror.state":
                        values["mirror_promoting"] = text == "promoting"
                    case "min.cleanable.dirty.ratio":
                        values["min_cleanable_dirty_ratio"] = float(text)
                    case _ if name in _INTEGERS:
                        values[_INTEGERS[name]] = int(text)
            except (ValueError, KeyError) as error:
                raise ConfigError(f"{name}={text!r} is not a value of this topic config: {error}") from error
        if (codec := values.get("compression")) is not None:
            level = configs.get(f"compression.{codec.name.lower()}.level")
            values["compression_level"] = int(level) if level is not None and level != _GZIP_DEFAULT else None
        return cls(**values)


def _compression(text: str) -> Compression | None:
    if text == "producer":
        return None
    return Compression.NONE if text == "uncompressed" else Compression[text.upper()]


_GZIP_DEFAULT: Final = "-1"
_POLICIES: Final = {"delete": "cleanup_delete", "compact": "cleanup_compact"}
_INTEGERS = {
    field.name.replace("_", "."): field.name
    for field in fields(LogConfig)
    if field.name
    not in {
        "flush_on_ack",
        "cleanup_delete",
        "cleanup_compact",
        "min_cleanable_dirty_ratio",
        "log_append_time",
        "compression",
        "compression_level",
        "mirror_source",
        "mirror_promoting",
    }
}
