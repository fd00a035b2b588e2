"""The typed keywords are the fields of the configs."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from ottla.client import Admin, ConfigError, Consumer, Producer
from ottla.client.config import ConnectionConfig, ConsumerConfig, ProducerConfig
from ottla.client.settings import ConnectionSettings, ConsumerSettings, ProducerSettings


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (ConnectionConfig, ConnectionSettings),
        (ProducerConfig, ProducerSettings),
        (ConsumerConfig, ConsumerSettings),
    ],
)
def test_keywords_and_fields_agree(config: type, settings: type) -> None:
    assert set(settings.__annotations__) == {field.name for field in fields(config)}


def test_defaults_are_those_of_kafkas_clients() -> None:
    producer, consumer = ProducerConfig(), ConsumerConfig()
    producer.validate()
    consumer.validate()
    assert (producer.acks, producer.batch_size, producer.linger_ms, producer.buffer_memory) == (
        "all",
        16384,
        5,
        1 << 25,
    )
    assert (producer.delivery_timeout_ms, producer.request_timeout_ms, producer.max_block_ms) == (
        120_000,
        30_000,
        60_000,
    )
    assert (consumer.auto_offset_reset, consumer.max_poll_records, consumer.fetch_max_wait_ms) == ("latest", 500, 500)


def test_bootstrap_servers_may_be_several() -> None:
    assert ConnectionConfig(bootstrap_servers="a:1, [::1]:2").addresses() == ("a:1", "[::1]:2")
    assert ConnectionConfig(bootstrap_servers=("a:1", "b:2")).addresses() == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Consumer("t", isolation="read_committed"), "no setting isolation of this client: is isolation_level"),  # type: ignore[call-overload]
        (lambda: Consumer("t", session_timeout_ms=1), "group.consumer.session.timeout.ms"),  # type: ignore[call-overload]
        (lambda: Producer(group_id="g"), "there are bootstrap_servers, protocol, "),  # type: ignore[call-overload]
        (lambda: Admin(acks=1), "no setting acks"),  # type: ignore[call-arg]
    ],
)
def test_a_setting_that_does_not_exist_is_refused_with_what_may_be_meant(
    make: Callable[[], object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        make()
