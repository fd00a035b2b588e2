"""Configuration files: what is read from them, and what is refused by name."""

import re
from pathlib import Path

import pytest

from ottla.core.errors import ConfigError
from ottla.mirror.config import MirrorConfig, build_config, load_config
from ottla.mirror.config.properties import parse_properties
from ottla.mirror.core.policy import IdentityReplicationPolicy

BASE = {"clusters": "a, b", "a.bootstrap.servers": "one:9092, two:9092", "b.bootstrap.servers": "three:9092"}

MM2 = r"""
# The names that MirrorMaker 2's own sample uses, and more.
clusters = A, B
A.bootstrap.servers = A_host1:9092, A_host2:9092, \
    A_host3:9092
B.bootstrap.servers : B_host1:9092
A->B.enabled = true
A->B.topics = orders.*, payments
A->B.topics.exclude = .*\\.tmp
B->A.enabled=false
replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy
replication.factor=1
checkpoints.topic.replication.factor=2
offset.storage.replication.factor=1
A.offset.storage.topic = mm2-offsets
tasks.max = 4
sync.group.offsets.enabled = true
sync.group.offsets.interval.seconds = 7
emit.heartbeats.enabled = false
sync.topic.acls.enabled = false
exactly.once.source.support = enabled
A.consumer.fetch.max.bytes = 1000
consumer.max.poll.records = 7
consumer.poll.timeout.ms = 50
A->B.producer.compression.type = zstd
A.consumer.auto.offset.reset = latest
B.security.protocol = SASL_SSL
B.sasl.mechanism = SCRAM-SHA-256
B.sasl.jaas.config = org.apache.kafka.common.security.scram.ScramLoginModule required \
  username="me" password="my \\"secret\\"";
B.ssl.truststore.location = /ca.pem
B.ssl.truststore.type = PEM
"""

TOML = """
[clusters.A]
bootstrap_servers = ["A_host1:9092", "A_host2:9092", "A_host3:9092"]
consumer = { "fetch.max.bytes" = 1000 }

[clusters.B]
bootstrap_servers = "B_host1:9092"
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-256"
sasl_username = "me"
sasl_password = 'my "secret"'
ssl_truststore_location = "/ca.pem"

[flows."A->B"]
topics = ["orders.*", "payments"]
topics_exclude = ['.*\\.tmp']
producer = { compression_type = "zstd" }
start = "latest"

[flows."B->A"]
enabled = false

[defaults]
replication_policy_class = "identity"
replication_factor = 1
checkpoints_topic_replication_factor = 2
tasks_max = 4
sync_group_offsets_enabled = true
sync_group_offsets_interval_seconds = 7
emit_heartbeats_enabled = false
consumer_poll_timeout_ms = 50
consumer = { max_poll_records = 7 }
"""


def load(tmp_path: Path, name: str, text: str) -> MirrorConfig:
    path = tmp_path / name
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(("name", "text"), [("mm2.properties", MM2), ("mirror.toml", TOML)])
def test_both_files_give_the_same_model(tmp_path: Path, name: str, text: str) -> None:
    config = load(tmp_path, name, text)
    a, b = config.clusters["A"], config.clusters["B"]
    assert a.bootstrap_servers == ("A_host1:9092", "A_host2:9092", "A_host3:9092")
    assert (b.security.protocol, b.security.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-256")
    assert (b.security.sasl_username, b.security.sasl_password) == ("me", 'my "secret"')
    assert (b.security.ssl_cafile, a.security.ssl_cafile) == ("/ca.pem", None)
    (flow,) = config.flows
    assert flow.name == "A->B"
    assert [topic for topic in ("orders.eu", "payments", "orders.tmp", "users") if flow.takes_topic(topic)] == [
        "orders.eu",
        "payments",
    ]
    assert isinstance(flow.policy, IdentityReplicationPolicy)
    assert flow.policy.topic_source("orders") == "A"
    assert (flow.replication_factor, flow.checkpoints_replication_factor, flow.heartbeats_replication_factor) == (
        1,
        2,
        -1,
    )
    assert (flow.sync_group_offsets_ms, flow.emit_checkpoints_ms, flow.emit_heartbeats_ms) == (7000, 5000, None)
    assert flow.poll_timeout_ms == 50
    assert flow.start == "latest"
    assert config.heartbeats() == {}


def test_names_of_connects_workers_are_told_as_without_effect(tmp_path: Path) -> None:
    config = load(tmp_path, "mm2.properties", MM2)
    assert set(config.ignored) == {
        "offset.storage.replication.factor",
        "A.offset.storage.topic",
        "exactly.once.source.support",
        "tasks.max",
        "A.consumer.fetch.max.bytes",
        "consumer.max.poll.records",
        "A->B.producer.compression.type",
    }


def test_heartbeats_go_both_ways() -> None:
    config = build_config(BASE | {"a->b.enabled": "true", "a->b.emit.heartbeats.interval.seconds": "3"})
    assert config.heartbeats() == {("a", "b"): 3000, ("b", "a"): 3000}


def test_a_flow_settings_win_over_bare_ones() -> None:
    config = build_config(
        BASE | {"enabled": "true", "topics": "x", "b->a.topics": "y", "b->a.ottla.throttle.bytes.per.second": "5"}
    )
    assert [(flow.name, flow.topics.include, flow.throttle_bytes_per_second) for flow in config.flows] == [
        ("a->b", ("x",), None),
        ("b->a", ("y",), 5),
    ]
    assert config.flow("b->a") is config.flows[1]
    assert config.flow("a->c") is None


def test_dead_letters_have_a_topic_beside_the_copy() -> None:
    (flow,) = build_config(BASE | {"a->b.enabled": "true"}).flows
    assert flow.dead_letters_of("orders") == "a.orders.dlq"
    (flow,) = build_config(BASE | {"a->b.enabled": "true", "ottla.dead.letter.topic": "bad"}).flows
    assert flow.dead_letters_of("orders") == "bad"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"clusters": ""}, "no clusters are named"),
        ({"clusters": "a, a, b"}, "named twice"),
        ({"clusters": "a.x, b"}, "letters, digits"),
        ({"a.bootstrap.servers": ""}, "a.bootstrap.servers is missing"),
        ({"a.bootstrap.servers": "host"}, "'host' is not host:port"),
        ({"c.bootstrap.servers": "x:1"}, "c.bootstrap.servers is not a name"),
        ({"a->c.enabled": "true"}, "a->c: there is no cluster c, only a, b"),
        ({"a->a.enabled": "true"}, "from one cluster to another"),
        ({"a->b.topic": "x"}, "did you mean a->b.topics?"),
        ({"a->b.exakt": "true"}, "did you mean a->b.ottla.exact?"),
        ({"a.topics": "x"}, "a.topics belongs to a flow"),
        ({"topic.filter.class": "com.example.X"}, "topic.filter.class is not supported: write topics"),
        ({"transforms.x.type": "Y"}, "transforms.x.type is not supported"),
        ({"source.consumer.max.poll.records": "1"}, "<alias>.consumer.max.poll.records"),
        ({"sync.topic.acls.enabled": "true"}, "ACLs are not kept in step"),
        ({"a->b.offset.lag.max": "many"}, "a->b: Invalid value 'many' for configuration offset.lag.max"),
        ({"a->b.offset-syncs.topic.location": "moon"}, "allowed is one of source, target"),
        ({"a->b.topics": "["}, "no regular expression"),
        ({"a->b.ssl.truststore.location": "x"}, "belongs to a cluster: write a.ssl.truststore.location"),
        ({"a->b.ottla.retry.backoff.ms": "40000"}, "raise it"),
        ({"a.ottla.protocol": "http"}, "is kafka, or grpc"),
        ({"a.security.protocol": "TLS"}, "one of PLAINTEXT, SSL"),
        ({"a.ssl.keystore.location": "k.jks"}, "only PEM is read"),
        ({"a.ssl.truststore.password": "x"}, "PEM files have none"),
        ({"a.security.protocol": "SASL_SSL"}, "a.sasl.mechanism is one of"),
        ({"a.security.protocol": "SASL_SSL", "a.sasl.mechanism": "PLAIN"}, "needs a username"),
        (
            {
                "a.security.protocol": "SASL_SSL",
                "a.sasl.mechanism": "PLAIN",
                "a.sasl.username": "u",
                "a.sasl.password": "p",
                "a.ottla.protocol": "grpc",
            },
            "has no SASL",
        ),
        ({"a.sasl.password": "${env:OTTLA_NOBODY}"}, "OTTLA_NOBODY is not set"),
    ],
)
def test_what_is_wrong_is_refused_by_name(more: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_config(BASE | {"a->b.enabled": "true"} | more, environment={})
    assert message in str(refused.value)


def test_values_come_from_the_environment() -> None:
    values = {"a.security.protocol": "SASL_PLAINTEXT", "a.sasl.mechanism": "plain", "a.sasl.username": "u"}
    config = build_config(BASE | values | {"a.sasl.password": "x${env:P}"}, environment={"P": "y"})
    assert config.clusters["a"].security.sasl_password == "xy"
    assert "xy" not in repr(config)  # secrets do not get into logs


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.toml", "[", "x.toml: no TOML"),
        ("x.toml", "[cluster.a]", "cluster: the tables of a mirror"),
        ("x.toml", "clusters = 3", "clusters must be a table"),
        ("x.toml", "[clusters.a]\nbootstrap_servers = 1.5", "write a text"),
        ("x.toml", "[flows.ab]", 'a flow is called "source->target"'),
        ("x.properties", "clusters = \\u00g0", "line 1: a \\u"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, name, text)
    assert message in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def test_properties_are_read_as_java_reads_them() -> None:
    text = (
        "# comment\n! comment\n\n  a = 1\nb:2\nc 3\nd\ne=x\\\n   y\nf\\ g\\==h\\=i\n"
        "j=\\u00e9\\t\\q\\\\\r\nk = trailing  \nl=1\nl=2\n# no \\\nm=3\nn=x\\"
    )
    assert parse_properties(text) == {
        "a": "1",
        "b": "2",
        "c": "3",
        "d": "",
        "e": "xy",
        "f g=": "h=i",
        "j": "é\tq\\",
        "k": "trailing  ",
        "l": "2",
        "m": "3",
        "n": "x",
    }


EXACT = {
    "clusters": "a, b",
    "a.bootstrap.servers": "one:9094",
    "b.bootstrap.servers": "two:9094",
    "a.ottla.protocol": "grpc",
    "b.ottla.protocol": "grpc",
    "a->b.enabled": "true",
    "a->b.ottla.exact": "true",
}


def test_an_exact_flow_keeps_names_and_has_no_heartbeats() -> None:
    [flow] = build_config(EXACT).flows
    assert flow.exact
    assert flow.remote_topic("orders") == "orders"
    assert flow.takes_topic("orders")
    assert not flow.takes_topic("heartbeats")
    assert flow.configs.takes("message.timestamp.type")
    assert not flow.configs.takes("min.insync.replicas")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"b.ottla.protocol": "kafka"}, "b.ottla.protocol = grpc"),
        ({"a->b.replication.policy.class": "default"}, "a mirror topic has its source's name"),
        ({"a->b.ottla.start": "latest"}, "begins where its source does"),
        ({"a->b.ottla.on.topic.recreated": "start-over"}, "never mixed"),
        ({"b->a.enabled": "true"}, "b->a must be exact, too"),
    ],
)
def test_what_an_exact_flow_cannot_have_is_refused_with_the_reason(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_config(EXACT | changes)
