"""When a client speaks TLS, and what it says of files that cannot be used."""

from pathlib import Path
from typing import Any

import pytest

from ottla.client.config import ConnectionConfig
from ottla.client.grpc_channel import open_channel
from ottla.core.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "uses_tls"),
    [
        ({}, False),
        ({"security_protocol": "PLAINTEXT"}, False),
        ({"security_protocol": "SSL"}, True),
        ({"ssl_cafile": "ca.pem"}, True),
        ({"ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}, True),
    ],
)
def test_tls_is_spoken_when_it_is_named_or_a_file_is(settings: dict[str, Any], uses_tls: bool) -> None:
    config = ConnectionConfig(**settings)
    config.validate()
    assert config.uses_tls is uses_tls


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "must be PLAINTEXT or SSL"),
        ({"security_protocol": "PLAINTEXT", "ssl_cafile": "ca.pem"}, 'say "SSL", or leave them out'),
        ({"ssl_keyfile": "client.key"}, "belong together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConnectionConfig(**settings).validate()


def test_files_that_cannot_be_used_are_told_by_name(tmp_path: Path) -> None:
    missing, other = tmp_path / "missing.pem", tmp_path / "other.pem"
    other.write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ConfigError, match=r"ssl_cafile: cannot read .*missing\.pem: No such file"):
        open_channel("localhost:1", ConnectionConfig(ssl_cafile=str(missing)))
    with pytest.raises(ConfigError, match=r"ssl_cafile: .*other\.pem holds no certificate as PEM"):
        open_channel("localhost:1", ConnectionConfig(ssl_cafile=str(other)))
