"""The answer to a Metadata request, in which topics stand as they are in the image.

A topic's image is immutable and replaced as a whole when the topic changes, so a door can keep what it made of one.
"""

from dataclasses import dataclass, field
from typing import Final

from ottla.controller.image import TopicImage
from ottla.core.types import NodeId
from ottla.protocol.messages.metadata_response import MetadataResponse, MetadataResponseTopic

NO_OPERATIONS: Final = -(1 << 31)  # authorized operations that nobody asked for


@dataclass(slots=True, kw_only=True)
class MetadataAnswer:
    """`response` holds everything but the topics; a topic that cannot be described is a message with its error."""

    response: MetadataResponse
    topics: list[TopicImage | MetadataResponseTopic] = field(default_factory=list)
    live_brokers: frozenset[NodeId] = frozenset()
    topic_authorized_operations: int = NO_OPERATIONS
