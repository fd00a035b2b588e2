"""What a node's configuration accepts, from where, and what it says about the rest."""

import re
from pathlib import Path
from typing import Any

import pytest

from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.errors import ConfigError
from ottla.node.config import Layer, NodeConfig, from_assignments
from ottla.node.config_example import example_toml
from ottla.node.settings import BY_KAFKA_NAME, SETTINGS


def load(
    *assignments: str, file: Path | None = None, environment: dict[str, str] | None = None, **node: object
) -> NodeConfig:
    return NodeConfig.load(flags=from_assignments(assignments, node=node), file=file, environment=environment or {})


def test_defaults_are_valid_and_say_that_they_are_defaults() -> None:
    config = load()
    assert config.node_id == 1
    assert [str(endpoint) for endpoint in config.kafka_endpoints()] == ["PLAINTEXT://localhost:9092"]
    assert set(config.origins.values()) == {"default"}


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('sync_threads = 2\nrack = "file"\nlog_level = "error"\n[kafka]\n"log.retention.ms" = 5\n')
    environment = {"OTTLA_SYNC_THREADS": "3", "OTTLA_RACK": "environment", "OTTLA_KAFKA_LOG_RETENTION_MS": "6"}
    config = load("sync_threads=5", file=file, environment=environment)
    assert (config.sync_threads, config.rack, config.log_level, config.node_id) == (5, "environment", "error", 1)
    assert config.kafka == {"log.retention.ms": "6"}
    assert [config.origins[name] for name in ("sync_threads", "rack", "log_level", "node_id", "log.retention.ms")] == [
        "flag",
        "environment",
        str(file),
        "default",
        "environment",
    ]


def test_kafkas_names_set_the_fields_that_mean_the_same() -> None:
    config = load("listeners=PLAINTEXT://localhost:19092", "advertised.listeners=PLAINTEXT://example.org:29092")
    assert config.advertised_listeners == "PLAINTEXT://example.org:29092"
    assert config.kafka == {}


def test_one_thing_under_two_names_in_one_source_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"advertised_listeners and advertised\.listeners mean the same"):
        load("advertised.listeners=PLAINTEXT://a:1", advertised_listeners="PLAINTEXT://b:1")


def test_variables_of_container_platforms_are_left_alone() -> None:
    assert load(environment={"OTTLA_PORT_9092_TCP": "tcp://10.0.0.1:9092"}).kafka == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listner = 1", "no field 'listner'"),
        ("node_idd = 1", "did you mean node_id"),
        ("node_id = 0", "set it to 1 or more"),
        ('node_id = "one"', "write a whole number"),
        ("node_id = true", "write a whole number"),
        ("insecure = 3", "write true or false"),
        ("rack = []", "write a text in quotes"),
        ('log_level = "loud"', "choose one of debug, info"),
        ("sync_threads = 1000", "set it to 64 threads or less"),
        ("kafka = 1", r"write \[kafka\] as a table"),
        ("[kafka]\nlog.retention.ms = 1", '"log.retention.ms"'),
        ("node_id =", "is not TOML"),
        ('data_dir = ""', "name a directory"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(file=file)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ottla config example >"):
        load(file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, "--insecure"),
        ({"listeners": "PLAINTEXT://:9092"}, "--insecure"),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, r"SSL://0\.0\.0\.0:9092 and set tls_certificate"),
        ({"grpc_listener": "192.0.2.1:1"}, "set tls_certificate, tls_key and tls_ca, or say --insecure"),
        ({"http_listener": "[::]:1"}, "--insecure"),
        ({"internal_listener": "192.0.2.1:1"}, "--insecure"),
        ({"replication_listener": "192.0.2.1:1"}, "--insecure"),
        ({"listeners": "PLAINTEXT://:9092", "insecure": True}, "advertised_listeners"),
        ({"listeners": "SSL://localhost:9092"}, "needs a certificate: set tls_certificate"),
        ({"listeners": "SSL://h:9092", "insecure": True}, "ottla tls create"),
        ({"listeners": "SASL_SSL://localhost:9092"}, "SASL_SSL is not served yet; use SSL"),
        ({"listeners": "localhost:9092"}, "write NAME://host:port"),
        ({"listeners": ""}, "write at least one listener"),
        ({"listeners": "A://localhost:1,A://localhost:2"}, "name of its own"),
        ({"listeners": "A://localhost:1,B://localhost:1"}, "give each its own port"),
        ({"listeners": "A://localhost:port"}, "write host:port"),
        ({"listeners": "A://::1:9092"}, r"\[::1\]:9092"),
        ({"listeners": "A://localhost:70000"}, "write host:port"),
        ({"advertised_listeners": "OTHER://a:1"}, "OTHER, which is not among listeners"),
        ({"advertised_grpc": "nowhere"}, "advertised_grpc = 'nowhere': write host:port"),
    ],
)
def test_listeners_that_cannot_work_are_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**node)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_loopback_needs_no_permission(host: str) -> None:
    load(listeners=f"PLAINTEXT://{host}:9092", grpc_listener=f"{host}:1", http_listener=f"{host}:2")


def test_other_addresses_are_served_when_somebody_decided_so() -> None:
    config = load(listeners="PLAINTEXT://0.0.0.0:9092", advertised_listeners="PLAINTEXT://me:1", insecure="true")
    assert config.advertised_endpoints()["PLAINTEXT"].address == "me:1"


CERTIFICATE: dict[str, Any] = {"tls_certificate": "node.pem", "tls_key": "node.key", "tls_ca": "ca.pem"}


def test_other_addresses_are_served_with_tls() -> None:
    config = load(
        **CERTIFICATE,
        listeners="SSL://broker:9093,PLAINTEXT://localhost:9092",
        grpc_listener="broker:1",
        http_listener="broker:2",
        internal_listener="broker:3",
        replication_listener="broker:4",
    )
    assert [one.is_tls_listener for one in config.kafka_endpoints()] == [True, False]
    assert config.has_tls


def test_a_certificate_opens_no_plain_listener() -> None:
    with pytest.raises(ConfigError, match=r"PLAINTEXT://broker:9092 .* write SSL://broker:9092"):
        load(**CERTIFICATE, listeners="PLAINTEXT://broker:9092")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"tls_certificate": "node.pem", "tls_key": "node.key"}, "name the authority's certificates"),
        ({"tls_key": "node.key"}, "name the certificate that belongs to it"),
        ({"tls_client_auth": "required"}, "needs TLS: set tls_certificate"),
        ({**CERTIFICATE, "tls_client_auth": "always"}, "choose one of none, requested, required"),
    ],
)
def test_half_of_what_tls_needs_is_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**node)


def test_an_authority_alone_changes_nothing() -> None:
    """The command line's clients read it from the same variable."""
    assert not load(environment={"OTTLA_TLS_CA": "ca.pem"}).has_tls


def test_kafkas_names_for_pem_files_are_understood() -> None:
    config = load(
        "ssl.keystore.type=PEM",
        "ssl.keystore.location=node.pem",
        "ssl.truststore.type=PEM",
        "ssl.truststore.location=ca.pem",
        "ssl.client.auth=required",
        "listeners=SSL://localhost:9093",
    )
    assert (config.tls_certificate, config.tls_key, config.tls_ca) == ("node.pem", "", "ca.pem")
    assert (config.tls_client_auth, config.kafka) == ("required", {})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("ssl.keystore.type=JKS", "only PEM is read"),
        ("ssl.keystore.key=-----BEGIN", "name the file in tls_key"),
        ("ssl.key.password=secret", "decrypt the key"),
        ("listener.security.protocol.map=A:SSL", "the listener named SSL speaks TLS"),
        ("security.inter.broker.protocol=SSL", "when tls_certificate is set"),
    ],
)
def test_other_names_of_kafka_are_refused_with_what_to_write(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(assignment)


def test_the_example_names_every_field_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    text = example_toml()
    file.write_text(text)
    assert load(file=file).origins == load().origins
    file.write_text("\n".join(re.sub(r'^# (?=["a-z_.0-9]+ = [^.])', "", line) for line in text.splitlines()))
    everything = load(file=file)
    assert {setting.name: getattr(everything, setting.name) for setting in SETTINGS} == {
        setting.name: setting.default for setting in SETTINGS
    }
    assert set(everything.origins.values()) == {str(file)}
    assert everything.kafka == {
        name: field.default
        for name, field in BROKER_CONFIGS.items()
        if name not in BY_KAFKA_NAME and field.default is not None
    }


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("log.retention.mss=1", r"flag: there is no broker config 'log.retention.mss' \(did you mean log.retention.ms"),
        ("rak=1", r"did you mean rack"),
        ("num.partitions=0", r"flag: .*num.partitions.*at least 1"),
    ],
)
def test_broker_configs_are_checked_by_name_and_value(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(assignment)


def test_static_configs_are_what_a_broker_was_started_with() -> None:
    configs = load("num.partitions=3", "rack=a").static_configs()
    assert configs["num.partitions"] == "3"
    assert configs["broker.rack"] == "a"
    assert configs["node.id"] == "1"
    assert configs["listeners"] == "PLAINTEXT://localhost:9092"
    assert "advertised.listeners" not in configs


def test_set_needs_a_value() -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load("node_id")


def test_lists_and_truth_values_become_kafkas_texts() -> None:
    layer = Layer(origin="x", kafka={"a": True, "b": ["c", 1]})
    assert NodeConfig.merge([layer]).kafka == {"a": "true", "b": "c,1"}
