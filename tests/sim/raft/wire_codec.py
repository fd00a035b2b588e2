"""Messages as the bytes that production sends."""

from ottla.raft import wire
from ottla.raft.core.messages import Message
from ottla.testing.sim.network import Codec


class WireCodec:
    """`ottla.raft.wire`, there and back."""

    def encode(self, message: Message) -> bytes:
        return wire.encode(message)

    def decode(self, data: bytes) -> Message:
        (message,) = wire.decode(data)
        return message


def wire_codec() -> Codec:
    return WireCodec()
