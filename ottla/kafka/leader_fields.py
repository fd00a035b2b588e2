"""The tagged fields that tell of other leaders in Produce and Fetch (KIP-951): one for a partition, one at the end."""

from collections.abc import Mapping
from struct import Struct
from typing import Final

from ottla.broker.leader_hints import CurrentLeader
from ottla.core.types import NodeId
from ottla.kafka.reading import INT32
from ottla.protocol.wire import write_compact_string, write_unsigned_varint

_LEADER: Final = Struct(">BBBiiB")  # one field: its tag, its size; node, epoch, no tagged fields
_LEADER_BYTES: Final = 9
_ENDPOINTS_TAG: Final = 0

Leaders = Mapping[NodeId, CurrentLeader]


def current_leader(tag: int, leader: CurrentLeader) -> bytes:
    """The tagged fields of a partition, under the tag that CurrentLeader has there."""
    return _LEADER.pack(1, tag, _LEADER_BYTES, leader.node, leader.epoch, 0)


def node_endpoints(leaders: Leaders) -> bytes:
    """The tagged fields at the end of a response: where those leaders are, as far as that is known."""
    reachable = {node: leader for node, leader in leaders.items() if leader.endpoint is not None}
    if not reachable:
        return b"\0"
    field = bytearray()
    write_unsigned_varint(field, len(reachable) + 1)
    for node, leader in reachable.items():
        assert leader.endpoint is not None
        field += INT32.pack(node)
        write_compact_string(field, leader.endpoint.host)
        field += INT32.pack(leader.endpoint.port)
        write_compact_string(field, leader.rack)
        field.append(0)
    out = bytearray((1, _ENDPOINTS_TAG))
    write_unsigned_varint(out, len(field))
    return bytes(out + field)
