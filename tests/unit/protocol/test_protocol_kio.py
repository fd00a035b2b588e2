"""Every message that kio knows, in every version, encoded and decoded by both: kio is the second opinion.

kio sees only bytes that one of the two has encoded. It is not safe with others.
"""

import dataclasses
import datetime
import io
import uuid
from random import Random
from typing import Any, get_args

import pytest
from kio.index import UnknownEntity, load_entity_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

from ottla.protocol.message import Message
from tests.unit.protocol.protocol_samples import MESSAGES, Sampler, message_class
from tools.protocol.model import Field, MessageDefinition, StructDefinition

SAMPLES = 8
_KINDS = {
    "request": EntityType.request,
    "response": EntityType.response,
    "data": EntityType.data,
    "header": EntityType.header,
}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def kio_class(message: MessageDefinition, version: int) -> Any | None:
    name = message.module.removesuffix("_request").removesuffix("_response")
    try:
        return load_entity_schema(name, version, _KINDS[message.kind])  # type: ignore[arg-type]
    except (KeyError, UnknownEntity):
        return None


def to_kio(message: MessageDefinition, struct: StructDefinition, ours: Any, version: int, cls: Any) -> Any:
    """The same content as an entity of kio, whose fields stand in the same order under names of its own."""
    present = [one for one in struct.fields if version in one.versions]
    theirs = dataclasses.fields(cls)
    assert len(present) == len(theirs), (struct.name, version)
    return cls(**{
        their.name: _field_to_kio(message, one, getattr(ours, one.name), version, their)
        for one, their in zip(present, theirs, strict=True)
    })  # fmt: skip


def _field_to_kio(message: MessageDefinition, field: Field, value: Any, version: int, their: Any) -> Any:
    def convert(one: Any) -> Any:
        if field.is_struct:
            return to_kio(message, message.struct(field.type), one, version, _entity_type(their.type))
        return _plain_to_kio(one, their.metadata["kafka_type"])

    if value is None:
        return None
    return tuple(map(convert, value)) if field.is_array else convert(value)


def _entity_type(annotation: Any) -> Any:
    if dataclasses.is_dataclass(annotation):
        return annotation
    return next(found for found in map(_entity_type, get_args(annotation)) if found is not None)


def _plain_to_kio(value: Any, kafka_type: str) -> Any:
    if kafka_type == "uuid":
        return uuid.UUID(bytes=value) if any(value) else None
    if kafka_type == "error_code":
        return ErrorCode(value)
    if kafka_type.startswith("timedelta"):
        return datetime.timedelta(milliseconds=value)
    if kafka_type == "datetime_i64":
        return None if value == -1 else _EPOCH + datetime.timedelta(milliseconds=value)
    return value


def kio_encode(entity: Any) -> bytes:
    out = io.BytesIO()
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


KNOWN = [
    (message, version)
    for message in MESSAGES
    for version in range(message.top.versions.first, message.top.versions.last + 1)
    if kio_class(message, version) is not None
]


def test_kio_knows_every_message_in_every_version() -> None:
    versions = [one.top.versions for one in MESSAGES if one.kind in _KINDS]
    assert len(KNOWN) == sum(one.last - one.first + 1 for one in versions)


@pytest.mark.parametrize(("message", "version"), KNOWN, ids=lambda one: getattr(one, "name", one))
def test_both_agree(message: MessageDefinition, version: int) -> None:
    ours, theirs = message_class(message), kio_class(message, version)
    assert theirs is not None
    sampler = Sampler(Random(f"{message.name} {version}"), tame=True)
    for _ in range(SAMPLES):
        sample: Message = sampler.message(message, version)
        entity = to_kio(message, message.top, sample, version, theirs)
        encoded = sample.encode(version)
        assert encoded == kio_encode(entity)
        assert ours.decode(encoded, version) == (sample, len(encoded))
        assert entity_reader(theirs)(encoded, 0) == (entity, len(encoded))
