import subprocess
import sys

import pytest

from ottla.core.errors import DecodeError
from ottla.protocol.apis import (
    VERSIONS,
    ApiKey,
    RequestHeader,
    decode_request_header,
    encode_request_header,
    encode_response_header,
    is_flexible,
    request_class,
    request_header_version,
    response_class,
    response_header_version,
    supports,
)


@pytest.mark.parametrize("key", ApiKey)
def test_registry_agrees_with_the_messages(key: ApiKey) -> None:
    for cls, suffix in ((request_class(key), "Request"), (response_class(key), "Response")):
        assert cls.__name__.endswith(suffix)
        assert key == cls.API_KEY
        assert VERSIONS[key] == (cls.MIN_VERSION, cls.MAX_VERSION, cls.FIRST_FLEXIBLE_VERSION)


def test_header_versions() -> None:
    assert request_header_version(ApiKey.METADATA, 8) == 1
    assert request_header_version(ApiKey.METADATA, 9) == 2
    assert response_header_version(ApiKey.METADATA, 8) == 0
    assert response_header_version(ApiKey.METADATA, 9) == 1
    assert request_header_version(ApiKey.SASL_HANDSHAKE, 1) == 1


def test_answers_to_api_versions_always_have_the_oldest_header() -> None:
    assert request_header_version(ApiKey.API_VERSIONS, 4) == 2
    assert response_header_version(ApiKey.API_VERSIONS, 4) == 0
    assert encode_response_header(ApiKey.API_VERSIONS, 4, 7) == b"\x00\x00\x00\x07"
    assert encode_response_header(ApiKey.METADATA, 12, 7) == b"\x00\x00\x00\x07\x00"


def test_supported_versions() -> None:
    assert supports(ApiKey.PRODUCE, 3)
    assert not supports(ApiKey.PRODUCE, 2)
    assert not supports(ApiKey.PRODUCE, 99)
    assert not supports(4, 0)  # LeaderAndIsr is gone since Kafka 4.0
    assert not is_flexible(4, 9)


@pytest.mark.parametrize("client_id", [None, "", "rdkafka", "ä"])
@pytest.mark.parametrize("version", [8, 12])
def test_request_header_round_trip(client_id: str | None, version: int) -> None:
    encoded = encode_request_header(RequestHeader(ApiKey.METADATA, version, 42, client_id))
    header, end = decode_request_header(b"xyz" + encoded + b"body", 3)
    assert (header.api_key, header.api_version, header.correlation_id) == (3, version, 42)
    assert header.client_id == client_id
    assert end == 3 + len(encoded)


def test_request_header_skips_tagged_fields() -> None:
    data = bytes.fromhex("0012 0003 00000001 0001 63") + b"\x01\x07\x02ab" + b"body"
    header, end = decode_request_header(memoryview(data))
    assert header.client_id == "c"
    assert data[end:] == b"body"


def test_header_of_an_unknown_request_can_be_read_up_to_the_client_id() -> None:
    header, end = decode_request_header(bytes.fromhex("03e7 0000 00000005 ffff"))
    assert (header.api_key, header.correlation_id, header.client_id, end) == (999, 5, None, 10)


@pytest.mark.parametrize(
    "data", ["", "0003", "0003 0001 00000001", "0003 0001 00000001 0005 61", "0003 0001 00000001 0001 ff"]
)
def test_broken_request_header(data: str) -> None:
    with pytest.raises(DecodeError):
        decode_request_header(bytes.fromhex(data))


def test_importing_the_registry_imports_no_message() -> None:
    program = "import sys, ottla.protocol.apis; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "ottla.protocol.wire" in imported
    assert not [name for name in imported if name.startswith("ottla.protocol.messages")]
