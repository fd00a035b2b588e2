"""What is told of rights that are missing, and that it is told once."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ottla.cli import mirror_status
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ConfigChange
from ottla.client.types import ConfigEntry, ConfigResource, ConfigSource, CreatedTopic, NewTopic, TopicDescription
from ottla.mirror.config import ClusterConfig, FlowConfig, Security, build_config
from ottla.mirror.core.advice import DENIED
from ottla.mirror.engine.reports import Reporter, Reports
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import keep_configs, make_topics, missing_topics
from ottla.mirror.engine.troubles import Troubles

DENIED_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
ALLOW = "to User:ANONYMOUS: allow it by an ACL there"


def side_of(alias: str = "b", **security: Any) -> Side:
    config = ClusterConfig(alias=alias, bootstrap_servers=("localhost:1",), security=Security(**security))
    return Side(config, "test")


async def test_each_code_of_a_denial_names_the_right_the_resource_and_the_principal() -> None:
    side = side_of()
    told = {code: str(side.explained(ClientError(code, topic="t", partition=0), "Write", "x")) for code in DENIED}
    assert told == {
        ErrorCode.TOPIC_AUTHORIZATION_FAILED: (f"t-0: TOPIC_AUTHORIZATION_FAILED: b denies Write on topic t {ALLOW}"),
        ErrorCode.GROUP_AUTHORIZATION_FAILED: (f"t-0: GROUP_AUTHORIZATION_FAILED: b denies Write on group x {ALLOW}"),
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
            f"t-0: TRANSACTIONAL_ID_AUTHORIZATION_FAILED: b denies Write on transactional id x {ALLOW}"
        ),
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED: (
            f"t-0: CLUSTER_AUTHORIZATION_FAILED: b denies Write on cluster {ALLOW}"
        ),
    }
    every = {code for code in ErrorCode if code.name.endswith("AUTHORIZATION_FAILED")}
    assert every - DENIED == {ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED}  # the mirror uses no such tokens


async def test_other_errors_stay_as_they_are() -> None:
    error = ClientError(ErrorCode.NOT_LEADER_OR_FOLLOWER, topic="t")
    assert side_of().explained(error, "Write") is error


async def test_with_a_certificate_the_principal_is_that_of_it() -> None:
    side = side_of(protocol="SSL", ssl_certfile="mirror.pem", ssl_keyfile="mirror.key")
    told = side.explained(ClientError(DENIED_TOPIC), "Read", "t")
    assert "b denies Read on topic t to the principal of mirror.pem" in str(told)


def test_trouble_is_logged_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ottla.mirror")
    troubles = Troubles("a->b")
    for _ in range(3):
        troubles.keep("topic", {"x": "x is denied", "y": "y is denied"})
        troubles.keep("group", {})
    assert troubles.all() == {"topic": {"x": "x is denied", "y": "y is denied"}}
    troubles.keep("topic", {"y": "y is gone"})
    troubles.keep("topic", {})
    assert troubles.all() == {}
    assert caplog.messages == [
        "a->b: x is denied",
        "a->b: y is denied",
        "a->b: y is gone",
        "a->b: no longer so: x is denied",
        "a->b: no longer so: y is gone",
    ]


def test_status_hears_of_it_by_the_reports_and_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    reporter, reports = Reporter("a->b", "host-1"), Reports()
    reports.take(reporter.key, reporter.report({}, {"topic": {"x": "x is denied"}, "share": {"": "no share"}}))
    found = reports.troubles_of("a->b")
    assert found == {"topic": {"x": "x is denied"}, "share": {"": "no share"}}
    assert reports.troubles_of("b->a") == {}
    mirror_status.show([mirror_status.Measured(flow_of(), troubles=found)], show_all=False)
    header, _, flow, topic = capsys.readouterr().out.splitlines()[:4]
    assert "last error" in header
    assert flow.split()[0] == "a->b" and flow.rstrip().endswith("no share")
    assert topic.split() == ["x", "topic", "-", "-", "x", "is", "denied"]


# -- topics and their configs


class Cluster:
    """Tells configs, or that it denies to; remembers what it was asked to change."""

    def __init__(self, configs: Mapping[str, Mapping[str, str] | ClientError] | None = None) -> None:
        self.configs = configs or {}
        self.hidden: dict[str, ClientError] = {}
        self.refused: dict[str, ClientError] = {}
        self.created: list[NewTopic] = []
        self.changed: list[str] = []

    def ask_elsewhere(self) -> None:
        """There is one node."""

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        return [], {name: self.hidden[name] for name in names or () if name in self.hidden}

    async def describe_configs(
        self, resources: Sequence[ConfigResource], *, include_documentation: bool
    ) -> dict[ConfigResource, dict[str, ConfigEntry] | ClientError]:
        found: dict[ConfigResource, dict[str, ConfigEntry] | ClientError] = {}
        for one in resources:
            configs = self.configs[one.name]
            found[one] = (
                configs
                if isinstance(configs, ClientError)
                else {
                    key: ConfigEntry(key=key, value=value, source=ConfigSource.TOPIC, read_only=False, sensitive=False)
                    for key, value in configs.items()
                }
            )
        return found

    async def create_topics(
        self, topics: Sequence[NewTopic], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, CreatedTopic | ClientError]:
        self.created += [one for one in topics if one.name not in self.refused]
        return {
            one.name: self.refused.get(one.name)
            or CreatedTopic(name=one.name, topic_id="id", num_partitions=1, replication_factor=1)
            for one in topics
        }

    async def alter_configs(
        self, changes: Mapping[ConfigResource, Sequence[ConfigChange]], *, validate_only: bool
    ) -> dict[ConfigResource, ClientError | None]:
        self.changed += [one.name for one in changes]
        return {one: self.refused.get(one.name) for one in changes}


def flow_of(**settings: str) -> FlowConfig:
    values = {"clusters": "a, b", "a.bootstrap.servers": "x:1", "b.bootstrap.servers": "y:1", "a->b.enabled": "true"}
    return build_config({**values, **{name.replace("_", "."): value for name, value in settings.items()}}).flows[0]


def described(*names: str) -> dict[str, TopicDescription]:
    return {name: TopicDescription(name=name, topic_id=name, internal=False, partitions=()) for name in names}


def sides(source: Cluster, target: Cluster) -> tuple[Side, Side]:
    a, b = side_of("a"), side_of("b")
    a.transport, b.transport = source, target  # type: ignore[assignment]
    return a, b


async def test_a_topic_that_is_hidden_is_told_from_one_that_is_not_there() -> None:
    cluster = Cluster()
    cluster.hidden = {
        "closed": ClientError(DENIED_TOPIC, topic="closed"),
        "gone": ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic="gone"),
    }
    source, _ = sides(cluster, Cluster())
    assert await missing_topics(flow_of(topics="closed,gone,some.*"), source) == {
        "closed": f"closed: TOPIC_AUTHORIZATION_FAILED: a denies Describe on topic closed {ALLOW}",
        "gone": "a has no topic gone yet",
        "some.*": "a has no topic some.* yet",
    }


async def test_a_copy_is_not_made_with_guessed_configs() -> None:
    source, target = sides(
        Cluster({"open": {"cleanup.policy": "compact"}, "closed": ClientError(DENIED_TOPIC)}), Cluster()
    )
    source.topics = described("open", "closed")
    wanted = {"open": "a.open", "closed": "a.closed"}
    refused = await make_topics(flow_of(), source, target, wanted)
    assert list(refused) == ["closed"]
    assert f"a denies DescribeConfigs on topic closed {ALLOW}" in refused["closed"]
    created = target.transport.created  # type: ignore[attr-defined]
    assert [(one.name, one.configs) for one in created] == [("a.open", {"cleanup.policy": "compact"})]


async def test_a_copy_is_made_without_configs_where_they_are_not_to_be_kept_in_step() -> None:
    source, target = sides(Cluster({"closed": ClientError(DENIED_TOPIC)}), Cluster())
    source.topics = described("closed")
    flow = flow_of(sync_topic_configs_enabled="false")
    assert await make_topics(flow, source, target, {"closed": "a.closed"}) == {}
    assert [one.name for one in target.transport.created] == ["a.closed"]  # type: ignore[attr-defined]


async def test_a_copy_that_may_not_be_made_is_told_by_the_name_of_its_original() -> None:
    cluster = Cluster()
    cluster.refused = {"a.t": ClientError(DENIED_TOPIC, topic="a.t")}
    source, target = sides(Cluster({"t": {}}), cluster)
    source.topics = described("t")
    refused = await make_topics(flow_of(), source, target, {"t": "a.t"})
    assert refused == {
        "t": f"a.t cannot be created: a.t: TOPIC_AUTHORIZATION_FAILED: b denies Create on topic a.t {ALLOW}"
    }


async def test_configs_that_cannot_be_read_reset_nothing() -> None:
    compacted, nothing = {"cleanup.policy": "compact"}, ClientError(DENIED_TOPIC)
    cluster = Cluster({"a.closed": compacted, "a.open": compacted, "a.hidden": nothing, "a.fixed": compacted})
    cluster.refused = {"a.fixed": ClientError(DENIED_TOPIC, topic="a.fixed")}
    source, target = sides(Cluster({"closed": nothing, "open": {}, "hidden": compacted, "fixed": {}}), cluster)
    troubles = Troubles("a->b")
    names = {name: f"a.{name}" for name in ("closed", "open", "hidden", "fixed")}
    await keep_configs(flow_of(), source, target, names, troubles)
    assert cluster.changed == ["a.open", "a.fixed"]
    told = troubles.all()["configs"]
    assert f"a denies DescribeConfigs on topic closed {ALLOW}" in told.pop("closed")
    assert f"b denies DescribeConfigs on topic a.hidden {ALLOW}" in told.pop("hidden")
    assert f"b denies AlterConfigs on topic a.fixed {ALLOW}" in told.pop("fixed")
    assert not told
