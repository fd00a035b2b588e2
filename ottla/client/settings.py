"""The keyword arguments of the clients' constructors, for type checkers and editors; meanings stand in `config`."""

from typing import TypedDict

from ottla.client.config import (
    Acks,
    BlockingListener,
    CompressionType,
    Isolation,
    OffsetReset,
    PartitionsListener,
    SecurityProtocol,
    WireProtocol,
)


class ConnectionSettings(TypedDict, total=False):
    """Keywords that all clients take: the fields of `config.ConnectionConfig`."""

    bootstrap_servers: str | tuple[str, ...]
    protocol: WireProtocol
    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    metadata_max_age_ms: int
    api_timeout_ms: int
    security_protocol: SecurityProtocol | None
    ssl_cafile: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None


class ProducerSettings(ConnectionSettings, total=False):
    """Keywords of `Producer`: the fields of `config.ProducerConfig`."""

    acks: Acks
    batch_size: int
    linger_ms: float
    buffer_memory: int
    max_block_ms: int
    compression_type: CompressionType
    enable_idempotence: bool
    max_in_flight_requests_per_connection: int
    max_request_size: int
    retries: int
    delivery_timeout_ms: int
    transactional_id: str | None
    transaction_timeout_ms: int


class ReadingSettings(ConnectionSettings, total=False):
    """Keywords that a consumer takes, with asyncio and without."""

    auto_offset_reset: OffsetReset
    isolation_level: Isolation
    check_crcs: bool
    max_poll_records: int
    fetch_min_bytes: int
    fetch_max_wait_ms: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    prefetch_max_bytes: int
    group_instance_id: str | None
    group_remote_assignor: str | None
    client_rack: str | None
    enable_auto_commit: bool
    auto_commit_interval_ms: int
    max_poll_interval_ms: int


class ConsumerSettings(ReadingSettings, total=False):
    """Keywords of `Consumer`: the fields of `config.ConsumerConfig`."""

    on_assigned: PartitionsListener | None
    on_revoked: PartitionsListener | None
    on_lost: PartitionsListener | None


class BlockingConsumerSettings(ReadingSettings, total=False):
    """Keywords of `sync.Consumer`, which calls plain functions, too."""

    on_assigned: BlockingListener | PartitionsListener | None
    on_revoked: BlockingListener | PartitionsListener | None
    on_lost: BlockingListener | PartitionsListener | None
