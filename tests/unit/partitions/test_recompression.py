"""`compression.type` of a topic: what is stored is in that codec, whatever the producer sent."""

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.config import LogConfig
from ottla.partitions.results import Isolation, ReadResult
from ottla.records.batch import decode_records, read_header
from ottla.records.compression import Compression
from tests.sim.log_harness import Node, make_batch

VALUES = [b"%d " % n * 50 for n in range(20)]


def stored(node: Node) -> bytes:
    results: list[ReadResult | ApiError] = []
    at_hand = node.partition.read(
        0, 1 << 20, isolation=Isolation.READ_UNCOMMITTED, minimum_one_batch=True, done=results.append
    )
    if at_hand is not None:
        results.append(at_hand)
    node.clock.run_until(lambda: bool(results))
    assert isinstance(results[0], ReadResult)
    return b"".join(results[0].buffers)


@pytest.mark.parametrize("sent", list(Compression), ids=lambda c: c.name)
@pytest.mark.parametrize("wanted", ["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"])
def test_batches_are_stored_in_the_topics_codec(sent: Compression, wanted: str) -> None:
    node = Node(1, LogConfig.from_topic_configs({"compression.type": wanted}))
    batch = make_batch(VALUES, timestamp=node.clock.time_ms(), compression=sent, producer_id=7, producer_epoch=1,
                       base_sequence=0)  # fmt: skip
    _, ack = node.append(batch)
    node.settle()
    assert ack.code is ErrorCode.NONE
    data = stored(node)
    header = read_header(data)
    named = {"producer": sent, "uncompressed": Compression.NONE, **{c.name.lower(): c for c in Compression}}
    assert header.compression is named[wanted]
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 0)
    assert [record.value for record in decode_records(data)] == VALUES


def test_a_level_is_honoured() -> None:
    sizes = []
    for level in ("1", "9"):
        config = LogConfig.from_topic_configs({"compression.type": "gzip", "compression.gzip.level": level})
        node = Node(1, config)
        node.append(
            make_batch([bytes(n * m % 251 for n in range(3000)) for m in range(9)], timestamp=node.clock.time_ms())
        )
        node.settle()
        sizes.append(len(stored(node)))
    assert sizes[1] < sizes[0]


def test_a_batch_that_grows_beyond_the_limit_is_refused() -> None:
    config = LogConfig.from_topic_configs({"compression.type": "uncompressed", "max.message.bytes": "1000"})
    node = Node(1, config)
    with pytest.raises(ApiError) as caught:
        node.append(make_batch([bytes(5000)], timestamp=node.clock.time_ms(), compression=Compression.ZSTD))
    assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
    assert node.partition.log_end_offset == 0
