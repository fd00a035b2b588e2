"""TLS at every door and between nodes: who is let in, who is not, and what a renewal of certificates costs."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ottla.client import Admin
from ottla.client import Consumer as OttlaConsumer
from ottla.client import Producer as OttlaProducer
from ottla.client.errors import ClientError
from ottla.node.certificates import Certificates
from ottla.testing.cluster import Cluster

WAIT_S = 40.0
QUIET = {"log_level": 0, "reconnect.backoff.ms": 500}  # where librdkafka is to fail


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("trio"), nodes=3, tls=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, which asks its clients for certificates."""
    with Cluster(tmp_path_factory.mktemp("strict"), tls=True, settings={"ssl.client.auth": "required"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of another authority."""
    made = Certificates(tmp_path_factory.mktemp("strangers"))
    made.create(["localhost", "127.0.0.1", "::1"], 1)
    return made


def certificates(cluster: Cluster) -> Certificates:
    return Certificates(cluster.directory / "tls")


def kafka(cluster: Cluster, *, ca: Path | None = None, shows: Certificates | None = None) -> dict[str, Any]:
    """librdkafka's settings; `shows`: with whose certificate."""
    settings: dict[str, Any] = {
        "bootstrap.servers": cluster.bootstrap,
        "security.protocol": "SSL",
        "ssl.ca.location": str(ca or certificates(cluster).ca),
    }
    if shows is not None:
        settings["ssl.certificate.location"] = str(shows.client.certificate)
        settings["ssl.key.location"] = str(shows.client.key)
    return settings


def ours(cluster: Cluster, *, ca: Path | None = None, shows: Certificates | None = None) -> dict[str, Any]:
    """The same for `ottla.client`."""
    settings: dict[str, Any] = {
        "bootstrap_servers": cluster.grpc,
        "security_protocol": "SSL",
        "ssl_cafile": str(ca or certificates(cluster).ca),
        "api_timeout_ms": 20_000,
    }
    if shows is not None:
        settings["ssl_certfile"] = str(shows.client.certificate)
        settings["ssl_keyfile"] = str(shows.client.key)
    return settings


def address(text: str) -> tuple[str, int]:
    host, _, port = text.split(",")[0].rpartition(":")
    return host, int(port)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail(f"not within {WAIT_S} s: {what}")


def produce(settings: dict[str, Any], topic: str, values: list[bytes]) -> None:
    producer = Producer({**settings, "acks": "all", "message.max.bytes": 4 << 20})
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            errors.append(error)

    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(WAIT_S) == 0
    assert errors == []


def consume(settings: dict[str, Any], topic: str, count: int) -> list[bytes]:
    consumer = Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + WAIT_S
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value() or b"")
    consumer.close()
    return values


def handshake(where: tuple[str, int], ca: Path, *, name: str = "localhost", shows: Certificates | None = None) -> bytes:
    """The certificate that is shown there, once a byte could be asked for. Raises OSError."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])  # gRPC insists
    if shows is not None:
        context.load_cert_chain(shows.client.certificate, shows.client.key)
    with (
        socket.create_connection(where, timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        encrypted.settimeout(0.5)
        try:  # with TLS 1.3 the other end judges later
            if encrypted.recv(1) == b"":
                raise ConnectionResetError("hung up")
        except TimeoutError:
            pass
        return encrypted.getpeercert(binary_form=True) or b""


def test_kcat_writes_and_reads(trio: Cluster) -> None:
    flags = ["-b", trio.bootstrap, "-t", "kcat", "-X", "security.protocol=ssl"]
    flags += ["-X", f"ssl.ca.location={certificates(trio).ca}"]
    subprocess.run(["kcat", "-P", *flags], input=b"one\ntwo\n", check=True, timeout=WAIT_S)
    read = subprocess.run(
        ["kcat", "-C", "-q", "-e", "-o", "beginning", *flags], capture_output=True, check=True, timeout=WAIT_S
    )
    assert sorted(read.stdout.split()) == [b"one", b"two"]


def test_large_and_small_records_come_through_whole(trio: Cluster) -> None:
    values = [bytes([n]) * size for n, size in enumerate([1, 900_000, 10, 70_000, 0, 950_000, 3] * 4)]
    produce(kafka(trio), "sizes", values)
    assert sorted(consume(kafka(trio), "sizes", len(values))) == sorted(values)


def test_a_client_that_knows_another_authority_does_not_talk(trio: Cluster, strangers: Certificates) -> None:
    errors: list[KafkaError] = []
    admin = AdminClient({**kafka(trio, ca=strangers.ca), **QUIET, "error_cb": errors.append})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    admin.poll(1)
    assert KafkaError._SSL in [error.code() for error in errors]


def test_a_certificate_counts_for_its_names_alone(trio: Cluster) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'elsewhere\.example'"):
        handshake(address(trio.bootstrap), certificates(trio).ca, name="elsewhere.example")


async def test_our_client_speaks_tls(trio: Cluster, strangers: Certificates) -> None:
    async with OttlaProducer(**ours(trio)) as producer:
        await (await producer.send("ours", b"hello"))
    async with OttlaConsumer("ours", **ours(trio), auto_offset_reset="earliest") as consumer:
        async with asyncio.timeout(WAIT_S):
            async for record in consumer:
                assert record.value == b"hello"
                break
    with pytest.raises(ClientError, match="CERTIFICATE_VERIFY_FAILED"):
        async with Admin(**{**ours(trio, ca=strangers.ca), "api_timeout_ms": 2000}):
            pass


def test_the_command_line_speaks_tls(trio: Cluster) -> None:
    command = [sys.executable, "-m", "ottla", "cluster", "describe", "--json", "--server", trio.grpc]
    done = subprocess.run(
        [*command, "--tls-ca", str(certificates(trio).ca)], capture_output=True, check=True, timeout=WAIT_S
    )
    assert len(json.loads(done.stdout)["nodes"]) == 3


@pytest.mark.parametrize("listener", ["internal", "replication"])
def test_nodes_talk_to_nobody_without_a_certificate_of_their_authority(
    trio: Cluster, strangers: Certificates, listener: str
) -> None:
    where = ("127.0.0.1", json.loads((trio.directory / "ports.json").read_text())["1"][listener])
    assert handshake(where, certificates(trio).ca, shows=certificates(trio))
    for shows in (None, strangers):
        with pytest.raises(OSError):
            handshake(where, certificates(trio).ca, shows=shows)
    with socket.create_connection(where, timeout=10) as plain:
        plain.sendall(b"\0\0\0\x10 nothing like TLS")
        plain.settimeout(10)
        with pytest.raises((ConnectionResetError, EOFError)):
            while plain.recv(1000):
                pass
            raise EOFError


def test_a_killed_node_costs_nothing_and_comes_back(trio: Cluster) -> None:
    values = [b"%d" % n for n in range(100)]
    produce(kafka(trio), "killed", values[:50])
    trio.kill_node(2)
    produce(kafka(trio), "killed", values[50:])
    trio.start_node(2)

    def is_in_sync() -> bool:
        partitions = AdminClient(kafka(trio)).list_topics("killed", timeout=10).topics["killed"].partitions
        return all(len(partition.isrs) == 3 for partition in partitions.values())

    until(is_in_sync, "every replica is in sync again")
    assert sorted(consume(kafka(trio), "killed", 100)) == sorted(values)


def test_clients_without_a_certificate_are_refused_where_it_is_required(
    strict: Cluster, strangers: Certificates
) -> None:
    own = certificates(strict)
    produce(kafka(strict, shows=own), "strict", [b"known"])
    assert consume(kafka(strict, shows=own), "strict", 1) == [b"known"]
    for shows in (None, strangers):
        for door in (strict.bootstrap, strict.grpc):
            with pytest.raises(OSError):
                handshake(address(door), own.ca, shows=shows)
    assert "the client shows no certificate" in strict.log_tail()


async def test_our_client_shows_its_certificate(strict: Cluster) -> None:
    async with Admin(**ours(strict, shows=certificates(strict))) as admin:
        assert len((await admin.describe_cluster()).nodes) == 1
    with pytest.raises(ClientError):
        async with Admin(**{**ours(strict), "api_timeout_ms": 2000}):
            pass


def test_plain_bytes_at_the_tls_port_cost_one_line(trio: Cluster) -> None:
    start = trio.log_size()
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\0\0"):
        with socket.create_connection(address(trio.bootstrap), timeout=10) as plain:
            plain.sendall(request)
    until(lambda: "the other end speaks without it" in trio.log_tail(start=start), "the line")
    plain_client = AdminClient({"bootstrap.servers": trio.bootstrap, **QUIET})
    with pytest.raises(KafkaException):
        plain_client.list_topics(timeout=1)
    lines = trio.log_tail(start=start).count("the other end speaks without it")
    assert lines <= 2 * 3, "one for each address of localhost, of each node, however often it is tried"
    assert AdminClient(kafka(trio)).list_topics(timeout=10).brokers


def test_renewed_certificates_are_shown_without_a_restart_and_broken_ones_are_not(strict: Cluster) -> None:
    own = certificates(strict)

    def shown() -> list[bytes]:
        doors = (strict.bootstrap, strict.grpc)
        return [handshake(address(door), own.ca, shows=own) for door in doors]

    admin = AdminClient(kafka(strict, shows=own))
    admin.list_topics(timeout=10)
    before = shown()
    assert before[0] == before[1]
    own.create(["localhost", "127.0.0.1", "::1"], 1)
    renewed = ssl.PEM_cert_to_DER_cert(own.node(1).certificate.read_text())
    until(lambda: shown() == [renewed, renewed], "both doors show the new certificate")

    start = strict.log_size()
    own.node(1).certificate.write_text("-----BEGIN CERTIFICATE-----\nhalf of")
    until(lambda: "stay in force" in strict.log_tail(start=start), "the line")
    assert shown() == [renewed, renewed]
    admin.list_topics(timeout=10)
    assert strict.log_tail(start=start).count("stay in force") == 1
