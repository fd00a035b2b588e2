"""`compression.type` of a topic, when it is not `producer`: batches in another codec are compressed anew.

This costs the loop what the codec costs, as it costs Kafka's request threads: leave it at `producer` where throughput
matters.
"""

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, CorruptBatch
from ottla.partitions.config import LogConfig
from ottla.records.batch import assemble_batch, read_payload


def recompress(batch: memoryview, config: LogConfig) -> memoryview:
    """The same records in the topic's codec, as a batch that may be changed in place.

    ApiError when the batch does not decompress, or is larger than `max.message.bytes` in the new codec.
    """
    assert config.compression is not None
    try:
        header, payload = read_payload(batch, check_crc=False)  # the CRC was checked when the batch came in
    except CorruptBatch as error:
        raise ApiError(error.code, str(error)) from error
    recompressed = bytearray(assemble_batch(header, payload, config.compression, config.compression_level))
    if len(recompressed) > config.max_message_bytes:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the batch has {len(recompressed)} bytes in the topic's codec {config.compression.name.lower()}, "
            f"max.message.bytes of the topic is {config.max_message_bytes}",
        )
    return memoryview(recompressed)
