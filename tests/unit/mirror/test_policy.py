"""Names of copies, and which topics, groups and configs a flow takes."""

from collections.abc import Mapping

import pytest

from ottla.core.errors import ConfigError
from ottla.mirror.core.filters import (
    DEFAULT_GROUPS_EXCLUDE,
    DEFAULT_TOPICS_EXCLUDE,
    NameFilter,
    takes_topic,
)
from ottla.mirror.core.policy import DefaultReplicationPolicy, ReplicationPolicy, make_policy

DEFAULT = make_policy("default", "a", {})
IDENTITY = make_policy("org.apache.kafka.connect.mirror.IdentityReplicationPolicy", "a", {})


class Shouting(DefaultReplicationPolicy):
    """A policy of a user's own."""

    def format_remote_topic(self, source_alias: str, topic: str) -> str:
        return super().format_remote_topic(source_alias, topic).upper()


def test_the_default_policy_puts_the_alias_in_front() -> None:
    assert DEFAULT.format_remote_topic("a", "orders") == "a.orders"
    assert (DEFAULT.topic_source("a.orders"), DEFAULT.upstream_topic("a.orders")) == ("a", "orders")
    assert (DEFAULT.topic_source("orders"), DEFAULT.upstream_topic("orders")) == (None, None)
    assert DEFAULT.original_topic("c.b.a.orders") == "orders"
    assert not DEFAULT.keeps_names


def test_identity_keeps_names_but_those_of_heartbeats() -> None:
    assert IDENTITY.format_remote_topic("a", "orders") == "orders"
    assert IDENTITY.format_remote_topic("a", "heartbeats") == "a.heartbeats"
    assert (IDENTITY.topic_source("orders"), IDENTITY.upstream_topic("orders")) == ("a", "orders")
    assert IDENTITY.original_topic("orders") == "orders"
    assert IDENTITY.is_heartbeats_topic("b.a.heartbeats")
    assert IDENTITY.keeps_names


def test_the_separator_is_used_in_internal_names_too_unless_it_is_switched_off() -> None:
    settings = {"replication.policy.separator": "__"}
    policy = make_policy("DefaultReplicationPolicy", "a", settings)
    assert policy.format_remote_topic("a", "t") == "a__t"
    assert policy.checkpoints_topic("a") == "a__checkpoints__internal"
    assert policy.offset_syncs_topic("b") == "mm2-offset-syncs__b__internal"
    assert policy.is_internal_topic("mm2-offset-syncs__b__internal")
    plain = make_policy("default", "a", settings | {"replication.policy.internal.topic.separator.enabled": "false"})
    assert plain.checkpoints_topic("a") == "a.checkpoints.internal"
    assert plain.is_checkpoints_topic("a.checkpoints.internal")


@pytest.mark.parametrize(
    ("topic", "is_cycle"), [("b.orders", True), ("c.b.orders", True), ("c.orders", False), ("orders", False)]
)
def test_names_tell_what_came_from_the_target(topic: str, is_cycle: bool) -> None:
    assert DEFAULT.is_cycle(topic, "b") is is_cycle


def test_identity_tells_cycles_of_heartbeats_only() -> None:
    assert not IDENTITY.is_cycle("orders", "b")
    assert not IDENTITY.is_cycle("orders", "a")
    assert IDENTITY.is_cycle("b.heartbeats", "b")
    assert not IDENTITY.is_cycle("heartbeats", "b")


def test_a_policy_of_ones_own_is_named_by_its_path() -> None:
    for path in (f"{__name__}.Shouting", f"{__name__}:Shouting"):
        policy = make_policy(path, "a", {})
        assert policy.format_remote_topic("a", "t") == "A.T"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("com.example.MyPolicy", "written again in Python"),
        ("MyPolicy", "is no subclass"),
        ("ottla.mirror.core.policy.Nothing", "cannot be imported"),
        ("ottla.mirror.core.filters.NameFilter", "is no subclass"),
    ],
)
def test_a_class_that_is_no_policy_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(name, "a", {})


def takes(topic: str, policy: ReplicationPolicy = DEFAULT, **more: bool) -> bool:
    topics = NameFilter(("orders.*", "heart.*"), DEFAULT_TOPICS_EXCLUDE)
    return takes_topic(topic, topics=topics, policy=policy, target_alias="b", **more)


def test_a_flow_takes_chosen_topics_and_heartbeats_and_nothing_internal() -> None:
    wanted: Mapping[str, bool] = {
        "orders": True,
        "orders.eu": True,
        "payments": False,
        "my.orders": False,  # an expression matches the whole name
        "orders.replica": False,
        "orders-internal": False,
        "__consumer_offsets": False,
        "a.checkpoints.internal": False,
        "mm2-offset-syncs.b.internal": False,
        "ottla-mirror-progress.internal": False,
        "b.orders": False,  # came from the target
        "c.heartbeats": True,
        "b.heartbeats": False,
        "heartbeats": True,
    }
    assert {topic: takes(topic) for topic in wanted} == wanted
    assert not takes("c.heartbeats", replicate_heartbeats=False)
    assert takes("heartbeats", replicate_heartbeats=False)  # as any topic that the filter takes
    assert takes("orders", IDENTITY)


def test_groups_of_tools_are_left_alone() -> None:
    groups = NameFilter((".*",), DEFAULT_GROUPS_EXCLUDE)
    assert [group for group in ("billing", "console-consumer-1", "connect-x", "__g") if groups.takes(group)] == [
        "billing"
    ]


def test_flags_of_expressions_are_their_own() -> None:
    names = NameFilter(("(?i)ORDERS", "Pay"))
    assert [name for name in ("orders", "pay", "Pay") if names.takes(name)] == ["orders", "Pay"]
    assert not NameFilter(()).takes("x")
    with pytest.raises(ConfigError, match="no regular expression"):
        NameFilter(("*",))
