"""Each client writes in each codec, and each client reads it back."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_clients import CLIENTS, Client, Sent

RECORDS = [
    Sent(None, b""),
    Sent(b"", b"empty key"),
    Sent(b"tombstone", None),
    Sent(b"k\x00\xff", bytes(range(256)), (("h", b"1"), ("h", b"again"), ("ü", b""))),
    *(
        Sent(b"%d" % (n % 7), b"value %d " % n + b"x" * (n % 300), timestamp_ms=1_700_000_000_000 + n)
        for n in range(500)
    ),
]


WRITERS = [
    pytest.param(one, marks=getattr(pytest.mark, one.name.replace("-", "_").removesuffix("_kafka")), id=one.name)
    for one in CLIENTS
]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_client_reads_what_each_wrote(
    bootstrap: str, new_name: Callable[[str], str], codec: str, writer: Client
) -> None:
    topic = new_name(f"{writer.name}-{codec}")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    assert writer.produce(bootstrap, topic, RECORDS, codec) == list(range(len(RECORDS)))
    for reader in CLIENTS:
        assert reader.consume(bootstrap, topic, len(RECORDS)) == RECORDS, reader.name
