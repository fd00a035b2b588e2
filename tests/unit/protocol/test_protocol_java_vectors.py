"""Records of internal topics as Apache Kafka's own classes wrote them: the bytes, and what is in them."""

import base64
import json
from typing import Any

import pytest

from ottla.core.types import format_uuid
from tests.unit.protocol.make_java_vectors import VECTORS
from tests.unit.protocol.protocol_samples import MESSAGES, message_class
from tools.protocol.model import Field, MessageDefinition, StructDefinition

CASES = json.loads(VECTORS.read_text())
BY_NAME = {message.name: message for message in MESSAGES}


def json_name(field: Field) -> str:
    head, *tail = field.name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def content(message: MessageDefinition, struct: StructDefinition, value: Any, version: int) -> dict[str, Any]:
    """Our view of a message in the form of Kafka's."""
    return {
        json_name(field): _field(message, field, getattr(value, field.name), version)
        for field in struct.fields
        if version in field.versions
    }


def _field(message: MessageDefinition, field: Field, value: Any, version: int) -> Any:
    if value is None:
        return None
    if field.is_array:
        return [_value(message, field, one, version) for one in value]
    return _value(message, field, value, version)


def _value(message: MessageDefinition, field: Field, value: Any, version: int) -> Any:
    if field.is_struct:
        return content(message, message.struct(field.type), value, version)
    if field.type == "uuid":
        return format_uuid(value)
    return base64.b64encode(value).decode() if field.type == "bytes" else value


def without_defaults(ours: Any, theirs: Any) -> Any:
    """Kafka leaves a tagged field with its default out of its JSON: so do we here, where it did."""
    if isinstance(ours, dict):
        return {name: without_defaults(ours[name], theirs[name]) for name in ours.keys() & theirs.keys()}
    if isinstance(ours, list):
        return [without_defaults(one, other) for one, other in zip(ours, theirs, strict=True)]
    return ours


def test_vectors_cover_every_record_in_every_version() -> None:
    covered = {(case["message"], case["version"]) for case in CASES}
    wanted = {
        (one.name, version)
        for one in MESSAGES
        if one.kind.startswith("coordinator")
        for version in range(one.top.versions.first, one.top.versions.last + 1)
    }
    assert covered == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['message']}-{case['version']}")
def test_agrees_with_java(case: dict[str, Any]) -> None:
    message, version, encoded = BY_NAME[case["message"]], case["version"], bytes.fromhex(case["bytes"])
    decoded, end = message_class(message).decode(encoded, version)
    assert end == len(encoded)
    assert decoded.encode(version) == encoded
    ours = content(message, message.top, decoded, version)
    assert without_defaults(ours, case["content"]) == case["content"]
    for field in message.top.fields:
        if version in field.versions and json_name(field) not in case["content"]:
            assert getattr(decoded, field.name) == getattr(message_class(message)(), field.name)
