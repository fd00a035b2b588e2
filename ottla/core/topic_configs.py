"""Every config that a topic can have, under Kafka's names and with Kafka's defaults.

`synonyms` are the broker configs that give the default of topics which do not set the key themselves. Keys that only
matter for what Ottla does not have (tiered storage) accept just the value that means "off", so that tools which write
them work and nobody is told that something is on which is not.
"""

import re
from collections.abc import Mapping
from typing import Final

from ottla.core.config_fields import INT_MAX, LONG_MAX, ConfigField, ConfigFields, ConfigType, Synonym
from ottla.core.errors import ConfigError
from ottla.core.mirror_topics import (
    COPYING,
    MIRROR_PROMOTED,
    MIRROR_SOURCE,
    MIRROR_STATE,
    PROMOTING,
    why_no_source,
    why_not_promoted,
)

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000


def _flag(name: str, default: bool, doc: str, *synonyms: Synonym, choices: tuple[str, ...] = ()) -> ConfigField:
    return ConfigField(
        name=name,
        type=ConfigType.BOOLEAN,
        default=str(default).lower(),
        doc=doc,
        synonyms=synonyms,
        check=(lambda text: None if text.lower() in choices else f"only {choices[0]} is supported")
        if choices
        else None,
    )


def _int(
    name: str, default: int, minimum: int, doc: str, *synonyms: Synonym, unit: str = "", maximum: int | None = None
) -> ConfigField:
    return ConfigField(
        name=name,
        type=ConfigType.INT,
        default=str(default),
        minimum=minimum,
        maximum=maximum,
        doc=doc,
        unit=unit,
        synonyms=synonyms,
    )


def _long(
    name: str, default: int, minimum: int | None, doc: str, *synonyms: Synonym, unit: str, maximum: int | None = None
) -> ConfigField:
    return ConfigField(
        name=name,
        type=ConfigType.LONG,
        default=str(default),
        minimum=minimum,
        maximum=maximum,
        doc=doc,
        unit=unit,
        synonyms=synonyms,
    )


def _gzip_level(text: str) -> str | None:
    return None if text == "-1" or 1 <= int(text) <= 9 else "allowed is -1 (the codec's default) or 1 to 9."


_THROTTLED = re.compile(r"\d+:\d+")


def _throttled_replicas(text: str) -> str | None:
    if text in ("", "*") or all(_THROTTLED.fullmatch(part.strip()) for part in text.split(",")):
        return None
    return "write partition:broker pairs, comma-separated, or *."


def _throttled(name: str, what: str) -> ConfigField:
    return ConfigField(
        name=name,
        type=ConfigType.LIST,
        default="",
        doc=f"The {what} replicas whose replication is throttled, as partition:broker; * stands for all.",
        check=_throttled_replicas,
    )


TOPIC_CONFIGS = ConfigFields(
    "topic",
    (
        ConfigField(
            name="cleanup.policy",
            type=ConfigType.LIST,
            default="delete",
            choices=("compact", "delete"),
            doc="What happens to old records: delete whole segments by age or size, compact to the newest record of "
            "each key, or both. Empty: nothing is ever removed.",
            synonyms=(Synonym("log.cleanup.policy"),),
        ),
        ConfigField(
            name="compression.gzip.level",
            type=ConfigType.INT,
            default="-1",
            doc="The level when compression.type is gzip; -1 is the codec's default.",
            synonyms=(Synonym("compression.gzip.level"),),
            check=_gzip_level,
        ),
        _int(
            "compression.lz4.level",
            9,
            1,
            "The level when compression.type is lz4.",
            Synonym("compression.lz4.level"),
            maximum=17,
        ),
        ConfigField(
            name="compression.type",
            type=ConfigType.STRING,
            default="producer",
            choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
            doc="The codec in which the log keeps batches; producer: whatever the producer chose, untouched.",
            synonyms=(Synonym("compression.type"),),
        ),
        _int(
            "compression.zstd.level",
            3,
            -131_072,
            "The level when compression.type is zstd.",
            Synonym("compression.zstd.level"),
            maximum=22,
        ),
        _long(
            "delete.retention.ms",
            86_400_000,
            0,
            "How long a compacted topic keeps the marker of a deleted key, so that every reader comes to see it.",
            Synonym("log.cleaner.delete.retention.ms"),
            unit="ms",
        ),
        _long(
            "file.delete.delay.ms",
            60_000,
            0,
            "How long the file of a deleted segment stays on disk, for readers that still have it open.",
            Synonym("log.segment.delete.delay.ms"),
            unit="ms",
        ),
        _long(
            "flush.messages",
            LONG_MAX,
            1,
            "Sync after so many records that no acknowledgement waited for.",
            Synonym("log.flush.interval.messages"),
            unit="records",
        ),
        _long(
            "flush.ms",
            LONG_MAX,
            0,
            "Sync records that no acknowledgement waited for after this time.",
            Synonym("log.flush.interval.ms"),
            Synonym("log.flush.scheduler.interval.ms"),
            unit="ms",
        ),
        _throttled("follower.replication.throttled.replicas", "follower"),
        _int(
            "index.interval.bytes",
            4096,
            0,
            "An index entry is written after so many bytes of records.",
            Synonym("log.index.interval.bytes"),
            unit="bytes",
        ),
        _throttled("leader.replication.throttled.replicas", "leader"),
        _long(
            "local.retention.bytes",
            -2,
            -2,
            "For tiered storage, which Ottla does not have: only -2 (retention.bytes counts).",
            unit="bytes",
            maximum=-2,
        ),
        _long(
            "local.retention.ms",
            -2,
            -2,
            "For tiered storage, which Ottla does not have: only -2 (retention.ms counts).",
            unit="ms",
            maximum=-2,
        ),
        _long(
            "max.compaction.lag.ms",
            LONG_MAX,
            1,
            "A record is compacted at the latest after this time.",
            Synonym("log.cleaner.max.compaction.lag.ms"),
            unit="ms",
        ),
        _int(
            "max.message.bytes",
            1_048_588,
            0,
            "The largest record batch, compressed, that is taken.",
            Synonym("message.max.bytes"),
            unit="bytes",
        ),
        _long(
            "message.timestamp.after.max.ms",
            _HOUR_MS,
            0,
            "How far a producer's timestamp may be ahead of the broker's clock.",
            Synonym("log.message.timestamp.after.max.ms"),
            unit="ms",
        ),
        _long(
            "message.timestamp.before.max.ms",
            LONG_MAX,
            0,
            "How far a producer's timestamp may be behind the broker's clock.",
            Synonym("log.message.timestamp.before.max.ms"),
            unit="ms",
        ),
        ConfigField(
            name="message.timestamp.type",
            type=ConfigType.STRING,
            default="CreateTime",
            choices=("CreateTime", "LogAppendTime"),
            doc="Whose time a record carries: the producer's, or the broker's when it appends.",
            synonyms=(Synonym("log.message.timestamp.type"),),
        ),
        ConfigField(
            name="min.cleanable.dirty.ratio",
            type=ConfigType.DOUBLE,
            default="0.5",
            minimum=0,
            maximum=1,
            doc="A log is compacted when this part of it has not been compacted yet.",
            synonyms=(Synonym("log.cleaner.min.cleanable.ratio"),),
        ),
        _long(
            "min.compaction.lag.ms",
            0,
            0,
            "A record stays uncompacted for at least this time.",
            Synonym("log.cleaner.min.compaction.lag.ms"),
            unit="ms",
        ),
        _int(
            "min.insync.replicas",
            1,
            1,
            "With fewer replicas in sync, writes with acks=all are refused.",
            Synonym("min.insync.replicas"),
            unit="replicas",
        ),
        _flag(
            "ottla.flush.on.ack",
            True,
            "Whether acks=all waits for the disk. False: the page cache is enough, as in Kafka; a power cut on all "
            "replicas at once may then lose acknowledged records.",
            Synonym("ottla.flush.on.ack"),
        ),
        ConfigField(
            name=MIRROR_SOURCE,
            type=ConfigType.STRING,
            default="",
            doc="Makes the topic a mirror: read-only for clients, while a mirror appends what this topic of another "
            "cluster holds, <cluster id>/<topic id>/<topic>. `ottla mirror` sets it, and takes it away.",
            check=why_no_source,
        ),
        ConfigField(
            name=MIRROR_STATE,
            type=ConfigType.STRING,
            default=COPYING,
            doc="Of a mirror topic; `promoting`: nobody appends any more, until it is an ordinary topic.",
            choices=(COPYING, PROMOTING),
        ),
        ConfigField(
            name=MIRROR_PROMOTED,
            type=ConfigType.STRING,
            default="",
            doc="What the topic was a mirror of, and where each partition ended when it was promoted: "
            "<source>@<end offset>,<end offset>… The way back (`ottla mirror reverse`) rests on it.",
            check=why_not_promoted,
        ),
        _flag("preallocate", False, "Whether a new segment's space is reserved at once.", Synonym("log.preallocate")),
        _flag("remote.log.copy.disable", False, "For tiered storage, which Ottla does not have.", choices=("false",)),
        _flag(
            "remote.log.delete.on.disable", False, "For tiered storage, which Ottla does not have.", choices=("false",)
        ),
        _flag("remote.storage.enable", False, "For tiered storage, which Ottla does not have.", choices=("false",)),
        _long(
            "retention.bytes",
            -1,
            None,
            "A partition's log is cut from its start to about this size; -1: no limit.",
            Synonym("log.retention.bytes"),
            unit="bytes",
        ),
        _long(
            "retention.ms",
            604_800_000,
            -1,
            "Segments whose records are all older are deleted; -1: no limit.",
            Synonym("log.retention.ms"),
            Synonym("log.retention.minutes", _MINUTE_MS),
            Synonym("log.retention.hours", _HOUR_MS),
            unit="ms",
        ),
        _int(
            "segment.bytes",
            1 << 30,
            1 << 20,
            "The size of one segment file.",
            Synonym("log.segment.bytes"),
            unit="bytes",
            maximum=INT_MAX,
        ),
        _int(
            "segment.index.bytes",
            10 << 20,
            4,
            "The size of the index that makes a new segment begin.",
            Synonym("log.index.size.max.bytes"),
            unit="bytes",
        ),
        _long(
            "segment.jitter.ms",
            0,
            0,
            "A random time up to this is taken off segment.ms, so that not all logs roll at once.",
            Synonym("log.roll.jitter.ms"),
            Synonym("log.roll.jitter.hours", _HOUR_MS),
            unit="ms",
        ),
        _long(
            "segment.ms",
            604_800_000,
            1,
            "A segment older than this is closed even when it is not full.",
            Synonym("log.roll.ms"),
            Synonym("log.roll.hours", _HOUR_MS),
            unit="ms",
        ),
        _flag(
            "unclean.leader.election.enable",
            False,
            "Whether a replica that is not in sync may lead when no other is left, which loses records.",
            Synonym("unclean.leader.election.enable"),
        ),
    ),
)


def check_together(configs: Mapping[str, str]) -> None:
    """What single keys cannot tell: raises ConfigError when values of a topic contradict each other."""

    def value(name: str) -> int:
        return int(configs.get(name) or TOPIC_CONFIGS[name].default or 0)

    least, most = value("min.compaction.lag.ms"), value("max.compaction.lag.ms")
    if least > most:
        raise ConfigError(
            f"min.compaction.lag.ms ({least}) exceeds max.compaction.lag.ms ({most}): lower the one or raise the other."
        )
