"""The certificates of a private authority: whom they name, who signs them, who may read the keys."""

import ssl
import stat
import sys
from pathlib import Path

import pytest

from ottla.core.errors import ConfigError
from ottla.node.certificates import Certificates, Pair

HOSTS = ["localhost", "127.0.0.1", "::1", "broker.example"]


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path / "tls")
    certificates.create(HOSTS, 2)
    return certificates


def shake_hands(server: Pair, client: Pair, ca: Path, name: str) -> None:
    """In memory, as strictly as newer Pythons check. Raises SSLError."""
    contexts = {}
    for pair, protocol in ((server, ssl.PROTOCOL_TLS_SERVER), (client, ssl.PROTOCOL_TLS_CLIENT)):
        context = contexts[protocol] = ssl.SSLContext(protocol)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[ssl.PROTOCOL_TLS_CLIENT].wrap_bio(to_client, to_server, server_hostname=name),
        contexts[ssl.PROTOCOL_TLS_SERVER].wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(5):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends


@pytest.mark.parametrize("host", HOSTS)
def test_every_named_host_is_vouched_for(made: Certificates, host: str) -> None:
    shake_hands(made.node(1), made.client, made.ca, host)


def test_nodes_are_clients_of_each_other(made: Certificates) -> None:
    shake_hands(made.node(1), made.node(2), made.ca, "127.0.0.1")


def test_no_other_host_is_vouched_for(made: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made.node(1), made.client, made.ca, "elsewhere.example")


def test_a_client_cannot_pose_as_a_node(made: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made.client, made.node(1), made.ca, "localhost")


def test_keys_are_their_owners_alone(made: Certificates) -> None:
    keys = list(made.directory.glob("*.key"))
    assert len(keys) == 4
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700


def test_done_again_the_authority_stays_and_the_nodes_are_renewed(made: Certificates) -> None:
    ca, node = made.ca.read_bytes(), made.node(1).certificate.read_bytes()
    made.create([*HOSTS, "more.example"], 3)
    assert made.ca.read_bytes() == ca
    assert made.node(1).certificate.read_bytes() != node
    shake_hands(made.node(3), made.client, made.ca, "more.example")


def test_it_is_known_what_is_covered(made: Certificates) -> None:
    assert made.covers(["broker.example", "::1"], 2)
    assert not made.covers(["more.example"], 1)
    assert not made.covers(HOSTS, 3)
    made.node(1).key.unlink()
    assert not made.covers(HOSTS, 1)


def test_half_an_authority_is_told(made: Certificates) -> None:
    made.directory.joinpath("ca.key").unlink()
    with pytest.raises(ConfigError, match=r"restore ca\.pem and ca\.key"):
        made.create(HOSTS, 1)


def test_another_authoritys_key_is_told(made: Certificates, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other")
    other.create(HOSTS, 1)
    other.ca.replace(made.ca)
    with pytest.raises(ConfigError, match="is not the key of"):
        made.create(HOSTS, 1)


@pytest.mark.parametrize(
    ("hosts", "nodes", "message"),
    [([], 1, "--hosts"), (["a" * 64], 1, "no host name"), (["a"], 0, "--nodes")],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, hosts: list[str], nodes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Certificates(tmp_path).create(hosts, nodes)


def test_only_making_certificates_needs_the_extra(
    made: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert made.covers(HOSTS, 2)
    with pytest.raises(ConfigError, match=r"pip install 'ottla\[tls\]'"):
        Certificates(tmp_path / "new").create(HOSTS, 1)
    assert not (tmp_path / "new").exists()
