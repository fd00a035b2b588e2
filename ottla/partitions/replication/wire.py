"""The replica protocol's frames: four bytes of length, one of kind, then fields in network order.

One connection for each follower node and leader node; the follower dials. Partitions are named once, at SUBSCRIBE, and
then by the slot number that the follower gave: a number is never used twice on a connection, so what crosses a change
on the wire names a slot that is gone and is passed over.

    follower ▶ leader   HELLO  PROOF  SUBSCRIBE  UNSUBSCRIBE  DURABLE
    leader ▶ follower   CHALLENGE  WELCOME  ACCEPTED  DIVERGED  ANEW  REFUSED  DATA  OFFSETS
    both                HEARTBEAT  MESSAGE

DATA carries whole batches as they lie in the log. MESSAGE carries what the nodes have to say to each other besides
(`messages`), to leaders whose WELCOME says that they take it. Every length is checked; `DecodeError` is all that
decoding raises, and closes the connection.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ottla.core.errors import DecodeError
from ottla.core.types import Buffer, NodeId, Uuid

MAGIC: Final = b"OTRP"
VERSION: Final = 1
PREFIX_BYTES: Final = 5
MAX_FRAME_BYTES: Final = 256 << 20  # a batch can be as large as a produce request may be; all else is far smaller
MAX_GREETING_BYTES: Final = 256  # from whoever has not proved that it knows the secret
MAX_ENTRIES: Final = 16_384  # of OFFSETS and DURABLE, in one frame
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32

_PREFIX: Final = Struct(">IB")
_HELLO: Final = Struct(">4sH16siiq16s32s")
_CHALLENGE: Final = Struct(">iq32s32s")
_SUBSCRIBE: Final = Struct(">I16siiqqiq")
_SLOT: Final = Struct(">I")
_ACCEPTED: Final = Struct(">Iqq")
_DIVERGED: Final = Struct(">Iiq")
_ANEW: Final = Struct(">Iq")
_REFUSED: Final = Struct(">Ih")
_OFFSETS: Final = Struct(">Iqq")
_DURABLE: Final = Struct(">Iqqq")
_DATA_PREFIX: Final = Struct(">IBIqq")
DATA_FIELDS: Final = Struct(">Iqq")
DATA_FIELDS_BYTES: Final = DATA_FIELDS.size


class Kind(IntEnum):
    """Of a frame."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    HEARTBEAT = 5
    SUBSCRIBE = 6
    UNSUBSCRIBE = 7
    DURABLE = 8
    ACCEPTED = 9
    DIVERGED = 10
    ANEW = 11
    REFUSED = 12
    DATA = 13
    OFFSETS = 14
    MESSAGE = 15


class Hello(NamedTuple):
    """Who dials, and whom it means to reach."""

    cluster_id: Uuid
    node: NodeId
    leader: NodeId
    broker_epoch: int
    incarnation: Uuid
    nonce: bytes


class Challenge(NamedTuple):
    """Who answers, and its proof."""

    node: NodeId
    broker_epoch: int
    nonce: bytes
    proof: bytes


class Subscription(NamedTuple):
    """Where the log of a follower ends."""

    slot: int
    topic_id: Uuid
    partition: int
    leader_epoch: int
    log_end_offset: int
    durable_end_offset: int
    last_epoch: int
    log_start_offset: int


class Accepted(NamedTuple):
    """The follower's log is a beginning of the leader's."""

    slot: int
    high_watermark: int
    log_start_offset: int


class Progress(NamedTuple):
    """How far a follower is."""

    slot: int
    durable_end_offset: int
    log_end_offset: int
    log_start_offset: int


def frame(kind: Kind, body: bytes = b"") -> bytes:
    return _PREFIX.pack(len(body) + 1, kind) + body


HEARTBEAT: Final = frame(Kind.HEARTBEAT)
TAKES_MESSAGES: Final = 1  # a bit of the byte that WELCOME holds; its body may be empty, or grow
WELCOME: Final = frame(Kind.WELCOME, bytes([TAKES_MESSAGES]))


def check_length(length: int, limit: int) -> None:
    """Of a frame, kind included, as its first four bytes say."""
    if not 1 <= length <= limit:
        raise DecodeError(f"a frame of {length} bytes where 1 to {limit} are allowed")


# -- greeting


def encode_hello(hello: Hello) -> bytes:
    return _HELLO.pack(MAGIC, VERSION, hello[0], hello[1], hello[2], hello[3], hello[4], hello[5])


def decode_hello(body: Buffer) -> Hello:
    _exactly(body, _HELLO, "HELLO")
    magic, version, *fields = _HELLO.unpack(body)
    if magic != MAGIC:
        raise DecodeError("this is not the replica protocol")
    if version != VERSION:
        raise DecodeError(f"version {version} of the replica protocol is not known here, only {VERSION}")
    return Hello(*fields)


def encode_challenge(challenge: Challenge) -> bytes:
    return _CHALLENGE.pack(*challenge)


def decode_challenge(body: Buffer) -> Challenge:
    _exactly(body, _CHALLENGE, "CHALLENGE")
    return Challenge(*_CHALLENGE.unpack(body))


def takes_messages(welcome: Buffer) -> bool:
    """Whether the leader that sent this body of WELCOME takes MESSAGE."""
    return len(welcome) > 0 and bool(bytes(welcome[:1])[0] & TAKES_MESSAGES)


# -- from the follower


def subscribe(subscription: Subscription) -> bytes:
    return frame(Kind.SUBSCRIBE, _SUBSCRIBE.pack(*subscription))


def decode_subscribe(body: Buffer) -> Subscription:
    _exactly(body, _SUBSCRIBE, "SUBSCRIBE")
    subscription = Subscription(*_SUBSCRIBE.unpack(body))
    if not 0 <= subscription.durable_end_offset <= subscription.log_end_offset:
        raise DecodeError(f"SUBSCRIBE with ends that cannot be: {subscription}")
    return subscription


def unsubscribe(slot: int) -> bytes:
    return frame(Kind.UNSUBSCRIBE, _SLOT.pack(slot))


def decode_slot(body: Buffer) -> int:
    _exactly(body, _SLOT, "UNSUBSCRIBE")
    slot: int = _SLOT.unpack(body)[0]
    return slot


def durable(entries: Iterable[tuple[int, int, int, int]]) -> list[bytes]:
    """As few frames as hold (slot, durable end, log end, log start) of all."""
    return _tables(Kind.DURABLE, [_DURABLE.pack(*entry) for entry in entries])


def decode_durable(body: Buffer) -> Iterator[Progress]:
    _table(body, _DURABLE, "DURABLE")
    return (Progress(*entry) for entry in _DURABLE.iter_unpack(body))


# -- from the leader


def accepted(slot: int, high_watermark: int, log_start_offset: int) -> bytes:
    return frame(Kind.ACCEPTED, _ACCEPTED.pack(slot, high_watermark, log_start_offset))


def decode_accepted(body: Buffer) -> Accepted:
    _exactly(body, _ACCEPTED, "ACCEPTED")
    return Accepted(*_ACCEPTED.unpack(body))


def diverged(slot: int, epoch: int, end_offset: int) -> bytes:
    return frame(Kind.DIVERGED, _DIVERGED.pack(slot, epoch, end_offset))


def decode_diverged(body: Buffer) -> tuple[int, int, int]:
    """Slot, epoch, end offset."""
    _exactly(body, _DIVERGED, "DIVERGED")
    slot, epoch, end_offset = _DIVERGED.unpack(body)
    if end_offset < 0:
        raise DecodeError(f"DIVERGED at {end_offset}")
    return slot, epoch, end_offset


def anew(slot: int, offset: int) -> bytes:
    return frame(Kind.ANEW, _ANEW.pack(slot, offset))


def decode_anew(body: Buffer) -> tuple[int, int]:
    """Slot, offset."""
    _exactly(body, _ANEW, "ANEW")
    slot, offset = _ANEW.unpack(body)
    if offset < 0:
        raise DecodeError(f"ANEW at {offset}")
    return slot, offset


def refused(slot: int, code: int) -> bytes:
    return frame(Kind.REFUSED, _REFUSED.pack(slot, code))


def decode_refused(body: Buffer) -> tuple[int, int]:
    """Slot, error code."""
    _exactly(body, _REFUSED, "REFUSED")
    slot, code = _REFUSED.unpack(body)
    return slot, code


def data_prefix(slot: int, high_watermark: int, log_start_offset: int, size_bytes: int) -> bytes:
    """What precedes `size_bytes` of batches."""
    return _DATA_PREFIX.pack(size_bytes + DATA_FIELDS_BYTES + 1, Kind.DATA, slot, high_watermark, log_start_offset)


def decode_data(body: memoryview) -> tuple[int, int, int]:
    """Slot, high watermark, log start; the batches follow at `DATA_FIELDS_BYTES`."""
    if len(body) <= DATA_FIELDS_BYTES:
        raise DecodeError(f"DATA of {len(body)} bytes holds no batch")
    slot, high_watermark, log_start_offset = DATA_FIELDS.unpack_from(body)
    return slot, high_watermark, log_start_offset


def offsets(entries: Iterable[tuple[int, int, int]]) -> list[bytes]:
    """As few frames as hold (slot, high watermark, log start) of all."""
    return _tables(Kind.OFFSETS, [_OFFSETS.pack(*entry) for entry in entries])


def decode_offsets(body: Buffer) -> Iterator[tuple[int, int, int]]:
    """(slot, high watermark, log start) of each."""
    _table(body, _OFFSETS, "OFFSETS")
    return _OFFSETS.iter_unpack(body)


def _tables(kind: Kind, rows: list[bytes]) -> list[bytes]:
    return [frame(kind, b"".join(rows[n : n + MAX_ENTRIES])) for n in range(0, len(rows), MAX_ENTRIES)]


def _exactly(body: Buffer, fields: Struct, name: str) -> None:
    if len(body) != fields.size:
        raise DecodeError(f"{name} has {fields.size} bytes, here are {len(body)}")


def _table(body: Buffer, row: Struct, name: str) -> None:
    count, rest = divmod(len(body), row.size)
    if rest or not 1 <= count <= MAX_ENTRIES:
        raise DecodeError(f"{name} of {len(body)} bytes: not 1 to {MAX_ENTRIES} entries of {row.size}")
