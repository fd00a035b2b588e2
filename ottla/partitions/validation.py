"""Whether a batch may be appended: what Kafka's log checks of one, and the error that it answers.

The header and the CRC are checked for every batch; records are looked at only where the topic needs it (compacted
topics require keys).
"""

from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, DecodeError
from ottla.partitions.config import LogConfig
from ottla.partitions.results import Origin
from ottla.records.compression import MAX_DECOMPRESSED_BYTES
from ottla.records.header import HEADER_BYTES, BatchHeader, read_header, validate
from ottla.records.scan import scan_batch

_PREFIX_BYTES: Final = 12
_NO_TIMESTAMP: Final = -1
# How far the records of a compacted topic may be compressed: they are looked at on the loop, as long as that takes.
_EXPANSION: Final = 8
_LEAST_MESSAGE_BYTES: Final = 1 << 20


def check_batch(batch: memoryview, config: LogConfig, origin: Origin, now_ms: int) -> BatchHeader:
    """The header of the one valid batch that `batch` consists of; ApiError otherwise."""
    size = len(batch)
    try:
        header = validate(batch)
    except DecodeError as error:
        raise _refusal(batch, error) from error
    if header.batch_length + _PREFIX_BYTES != size:
        raise ApiError(ErrorCode.INVALID_RECORD, "a request must carry exactly one record batch for a partition")
    if origin is Origin.REPLICATION:
        return header
    if size > config.max_message_bytes:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the batch has {size} bytes, max.message.bytes of the topic is {config.max_message_bytes}",
        )
    if size > config.segment_bytes:
        raise ApiError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"the batch has {size} bytes, segment.bytes of the topic is {config.segment_bytes}",
        )
    count = header.last_offset_delta + 1
    if count <= 0 or count != header.record_count:
        raise ApiError(
            ErrorCode.INVALID_RECORD,
            f"the batch says {header.record_count} records and a last offset delta of {header.last_offset_delta}",
        )
    if origin is Origin.CLIENT:
        _check_client_batch(batch, header, config, now_ms)
    return header


def refuse_clients(config: LogConfig) -> None:
    """Raises ApiError POLICY_VIOLATION while only a mirror may write."""
    if config.mirror_source:
        cluster, _, topic = config.mirror_source.partition("/")
        raise ApiError(
            ErrorCode.POLICY_VIOLATION,
            f"the topic is a mirror of {topic.partition('/')[2]} in cluster {cluster}, and read-only until it is "
            "promoted (`ottla mirror promote`)",
        )


def _check_client_batch(batch: memoryview, header: BatchHeader, config: LogConfig, now_ms: int) -> None:
    refuse_clients(config)
    if header.base_offset != 0:
        raise ApiError(ErrorCode.INVALID_RECORD, f"the base offset must be 0, but it is {header.base_offset}")
    if header.is_control:
        raise ApiError(ErrorCode.INVALID_RECORD, "clients are not allowed to write control records")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise ApiError(ErrorCode.INVALID_RECORD, f"invalid sequence number {header.base_sequence} of a producer")
    if not config.log_append_time:
        if header.is_log_append_time:
            raise ApiError(ErrorCode.INVALID_TIMESTAMP, "producers must not set the timestamp type to LogAppendTime")
        latest, earliest = header.max_timestamp, header.base_timestamp
        if latest != _NO_TIMESTAMP and latest - now_ms > config.message_timestamp_after_max_ms:
            raise ApiError(
                ErrorCode.INVALID_TIMESTAMP,
                f"timestamp {latest} is more than message.timestamp.after.max.ms="
                f"{config.message_timestamp_after_max_ms} ahead of the broker's time {now_ms}",
            )
        if earliest != _NO_TIMESTAMP and now_ms - earliest > config.message_timestamp_before_max_ms:
            raise ApiError(
                ErrorCode.INVALID_TIMESTAMP,
                f"timestamp {earliest} is more than message.timestamp.before.max.ms="
                f"{config.message_timestamp_before_max_ms} behind the broker's time {now_ms}",
            )
    if config.cleanup_compact:
        _require_keys(
            batch, min(_EXPANSION * max(config.max_message_bytes, _LEAST_MESSAGE_BYTES), MAX_DECOMPRESSED_BYTES)
        )


def _require_keys(batch: memoryview, max_bytes: int) -> None:
    try:
        keyless = any(entry.key is None for entry in scan_batch(batch, max_bytes=max_bytes, check_crc=False))
    except DecodeError as error:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    if keyless:
        raise ApiError(ErrorCode.INVALID_RECORD, "a compacted topic accepts only records with a key")


def _refusal(batch: memoryview, error: DecodeError) -> ApiError:
    """Old formats and incomplete batches are the producer's fault for good; a wrong CRC may heal by a retry."""
    if len(batch) < HEADER_BYTES:
        return ApiError(ErrorCode.INVALID_RECORD, "a request must carry exactly one record batch for a partition")
    try:
        if read_header(batch).magic in (0, 1):
            return ApiError(ErrorCode.INVALID_RECORD, "only record batches of magic version 2 are accepted")
    except DecodeError:
        pass
    return ApiError(ErrorCode.CORRUPT_MESSAGE, str(error))
