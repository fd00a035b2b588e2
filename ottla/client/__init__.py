"""Clients of an Ottla cluster: `Producer`, `Consumer` and `Admin` for asyncio, and their like for plain code in `sync`.

They know nothing of the broker and run wherever Python does. The transport is loaded when a client connects.
"""

from logging import NullHandler, getLogger

from ottla.client.admin import Admin
from ottla.client.batches import Delivery
from ottla.client.consumer import Consumer
from ottla.client.coordination import (
    GroupDescription,
    GroupListing,
    GroupMember,
    GroupMetadata,
    HangingTransaction,
    OffsetAndMetadata,
    ProducerState,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.errors import (
    BufferExhausted,
    ClientClosed,
    ClientError,
    ClientForked,
    CommitFailed,
    DeliveryTimeout,
    NoOffset,
    PartialFailure,
    ProducerFenced,
    RecordTooLarge,
    Remedy,
    SerializationFailed,
    TransactionAborted,
    TransactionError,
    TransactionsFailed,
    TransactionUnfinished,
)
from ottla.client.operations import QuorumDescription, QuorumMember, Reassignment, ReplicaProgress
from ottla.client.producer import Producer
from ottla.client.serialization import json_deserializer, json_serializer, string_deserializer, string_serializer
from ottla.client.transaction import Transaction
from ottla.client.types import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ConsumerRecord,
    CreatedTopic,
    NewTopic,
    Node,
    OffsetAndTimestamp,
    PartitionDescription,
    RecordMetadata,
    ResourceType,
    TimestampType,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from ottla.core.errors import ConfigError, ErrorCode

__all__ = [
    "Admin",
    "BufferExhausted",
    "ClientClosed",
    "ClientError",
    "ClientForked",
    "ClusterDescription",
    "CommitFailed",
    "ConfigEntry",
    "ConfigError",
    "ConfigResource",
    "ConfigSource",
    "Consumer",
    "ConsumerRecord",
    "CreatedTopic",
    "Delivery",
    "DeliveryTimeout",
    "ErrorCode",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "GroupMetadata",
    "HangingTransaction",
    "NewTopic",
    "NoOffset",
    "Node",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "PartialFailure",
    "PartitionDescription",
    "Producer",
    "ProducerFenced",
    "ProducerState",
    "QuorumDescription",
    "QuorumMember",
    "Reassignment",
    "RecordMetadata",
    "RecordTooLarge",
    "Remedy",
    "ReplicaProgress",
    "ResourceType",
    "SerializationFailed",
    "TimestampType",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
    "Transaction",
    "TransactionAborted",
    "TransactionDescription",
    "TransactionError",
    "TransactionListing",
    "TransactionUnfinished",
    "TransactionsFailed",
    "json_deserializer",
    "json_serializer",
    "string_deserializer",
    "string_serializer",
]

# An application that configures no logging is not written to on stderr by a library.
getLogger("ottla.client").addHandler(NullHandler())
