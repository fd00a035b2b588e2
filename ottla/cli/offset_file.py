"""Files of offsets, as `kafka-consumer-groups --export` writes them: lines of `topic,partition,offset`.

Lines of several groups have the group before that; those of others are passed over.
"""

import csv
from collections.abc import Iterable

from ottla.core.errors import ConfigError

LARGEST_OFFSET = (1 << 63) - 1
LARGEST_PARTITION = (1 << 31) - 1


def parse_offsets(lines: Iterable[str], group_id: str, source: str) -> dict[tuple[str, int], int]:
    """Offsets by topic and partition; raises ConfigError, which names `source` and the line."""
    offsets: dict[tuple[str, int], int] = {}
    reader = csv.reader(lines)
    for row in reader:
        if not row:
            continue
        *group, topic, partition, offset = row if len(row) in (3, 4) else ("", "", "")
        if group and group[0] != group_id:
            continue
        if not topic or not _is_number(partition, LARGEST_PARTITION) or not _is_number(offset, LARGEST_OFFSET):
            raise ConfigError(
                f"{source}, line {reader.line_num}: write TOPIC,PARTITION,OFFSET (or GROUP before that), "
                f"not {','.join(row)}"
            )
        place = (topic, int(partition))
        if offsets.setdefault(place, int(offset)) != int(offset):
            raise ConfigError(f"{source}, line {reader.line_num}: {topic}-{partition} had another offset before")
    if not offsets:
        raise ConfigError(f"{source} has no offsets for {group_id}")
    return offsets


def _is_number(text: str, largest: int) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= largest
