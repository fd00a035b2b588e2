"""Whether the topics of a group are as they were: one number stands in the group's record for all of them."""

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final

from ottla.coordinators.groups.topics import Topics

_HASH_BYTES: Final = 8
_partition_count = Struct(">i")


def metadata_hash(names: Iterable[str], topics: Topics) -> int:
    """Over ids and partition counts of the topics that exist, whatever their order; 0 when there are none.

    Only the coordinator that wrote it ever compares it, so it need not be Kafka's.
    """
    digest = blake2b(digest_size=_HASH_BYTES)
    none = True
    for name in sorted(names):
        topic_id = topics.topic_id(name)
        if topic_id is not None:
            none = False
            digest.update(topic_id)
            digest.update(_partition_count.pack(topics.partition_count(name)))
    return 0 if none else int.from_bytes(digest.digest(), "big", signed=True)
