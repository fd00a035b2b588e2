"""What a node makes of its TLS files, at the start and when they change."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from ottla.core.errors import ConfigError
from ottla.node.certificates import Certificates
from ottla.node.tls import Tls, TlsFiles

HOSTS = ["localhost"]


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path / "tls")
    certificates.create(HOSTS, 1)
    return certificates


def files(made: Certificates, *, client_auth: str = "none") -> TlsFiles:
    node = made.node(1)
    return TlsFiles(certificate=node.certificate, key=node.key, ca=made.ca, client_auth=client_auth)


def encrypt(made: Certificates) -> None:
    from cryptography.hazmat.primitives import serialization

    path = made.node(1).key
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda made: made.node(1).certificate.unlink(), "tls_certificate: cannot read .*node-1.pem: No such file"),
        (lambda made: made.node(1).key.unlink(), "tls_key: cannot read"),
        (lambda made: made.ca.unlink(), "tls_ca: cannot read"),
        (lambda made: made.node(1).certificate.write_text("?"), "tls_certificate .* both are PEM"),
        (lambda made: made.client.key.replace(made.node(1).key), "key values mismatch; .* the certificate's own"),
        (lambda made: made.ca.write_text("?"), "tls_ca .* the authority's certificates as PEM"),
        (encrypt, "the key is encrypted, .*`openssl pkey`"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_name(
    made: Certificates, damage: Callable[[Certificates], object], message: str
) -> None:
    damage(made)
    with pytest.raises(ConfigError, match=message):
        Tls(files(made))


def test_clients_are_asked_for_what_was_configured_and_nodes_always(made: Certificates) -> None:
    asked = {how: Tls(files(made, client_auth=how)).current for how in ("none", "requested", "required")}
    assert [one.door.verify_mode for one in asked.values()] == [
        ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED
    ]  # fmt: skip
    assert {one.node_server.verify_mode for one in asked.values()} == {ssl.CERT_REQUIRED}
    assert {one.node_client.check_hostname for one in asked.values()} == {True}


def test_key_and_certificate_may_share_a_file(made: Certificates) -> None:
    node = made.node(1)
    both = made.directory / "both.pem"
    both.write_bytes(node.key.read_bytes() + node.certificate.read_bytes())
    tls = Tls(TlsFiles(certificate=both, key=both, ca=made.ca))
    tls.node_server_credentials()


def test_a_change_is_taken_once_it_is_complete(made: Certificates) -> None:
    tls = Tls(files(made))
    before = tls.current
    tls.look()
    assert tls.current is before
    made.create(HOSTS, 1)
    tls.look()
    assert tls.current is before, "it may be in the middle of being written"
    tls.look()
    assert tls.current is not before
    assert tls.current.certificate == made.node(1).certificate.read_bytes()


def test_a_broken_file_changes_nothing_and_is_told_once(made: Certificates) -> None:
    tls = Tls(files(made))
    before = tls.current
    made.node(1).certificate.write_text("broken")
    with structlog.testing.capture_logs() as lines:
        for _ in range(4):
            tls.look()
    assert tls.current is before
    assert [line["log_level"] for line in lines] == ["error"]
    made.create(HOSTS, 1)
    with structlog.testing.capture_logs() as lines:
        tls.look()
        tls.look()
    assert tls.current is not before
    assert [line["log_level"] for line in lines] == ["info"]
