"""Subscriptions by regular expression: the coordinator resolves them, and looks again when topics change."""

import sys
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, partitions_of
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


def enter(cluster: ConsumerCluster, member_id: str, regex: str | None, **fields: Any) -> Any:
    fields.setdefault("topics", None)
    return cluster.enter(member_id, subscribed_topic_regex=regex, **fields)


def tables(cluster: ConsumerCluster) -> dict[str, frozenset[str]]:
    return {regex: resolved.topics for regex, resolved in cluster.consumer_group().expressions.items()}


def test_first_answer_has_what_matches_as_a_whole(cluster: ConsumerCluster) -> None:
    a1, a2 = cluster.topics.create("a1", 1), cluster.topics.create("a2", 2)
    cluster.topics.create("ba1", 1)
    answer = enter(cluster, "m", "a.*")
    assert partitions_of(answer) == {a1: {0}, a2: {0, 1}}
    assert tables(cluster) == {"a.*": {"a1", "a2"}}
    cluster.restart()
    assert tables(cluster) == {"a.*": {"a1", "a2"}}
    assert cluster.described().members[0].subscribed_topic_regex == "a.*"


def test_names_and_expression_together(cluster: ConsumerCluster) -> None:
    a1 = cluster.topics.create("a1", 1)
    answer = enter(cluster, "m", "a.", topics=("jobs",))
    assert partitions_of(answer) == {a1: {0}, TOPIC_ID: set(range(8))}


def test_new_topic_that_matches_is_given_out(cluster: ConsumerCluster) -> None:
    assert partitions_of(enter(cluster, "m", "a.*")) == {}
    a1 = cluster.topics.create("a1", 1)
    cluster.coordinator.topics_changed()
    assert cluster.beat("m", 1).assignment is None, "topics come in numbers, so it waits a little"
    cluster.run(100)
    answer = cluster.beat("m", 1)
    assert (answer.member_epoch, partitions_of(answer)) == (2, {a1: {0}})


def test_deleted_topic_is_forgotten(cluster: ConsumerCluster) -> None:
    a1 = cluster.topics.create("a1", 1)
    enter(cluster, "m", "a.*")
    del cluster.topics.counts["a1"]
    cluster.coordinator.topics_changed()
    cluster.run(100)
    assert tables(cluster) == {"a.*": frozenset()}
    assert partitions_of(cluster.beat("m", 1, owned={a1: {0}})) == {}


def test_topics_that_came_while_nobody_coordinated_are_noticed(cluster: ConsumerCluster) -> None:
    enter(cluster, "m", "a.*")
    a1 = cluster.topics.create("a1", 1)
    cluster.restart()
    cluster.run(100)
    assert partitions_of(cluster.beat("m", 1)) == {a1: {0}}


def test_other_topics_change_nothing(cluster: ConsumerCluster) -> None:
    enter(cluster, "m", "a.*")
    cluster.topics.create("b", 1)
    before = cluster.log.log_end_offset
    cluster.coordinator.topics_changed()
    cluster.run(100)
    assert cluster.beat("m", 1).member_epoch == 1
    assert cluster.log.log_end_offset == before


def test_expression_is_kept_as_long_as_somebody_uses_it(cluster: ConsumerCluster) -> None:
    enter(cluster, "m", "a.*")
    enter(cluster, "n", "a.*")
    assert enter(cluster, "m", "j.*").error_code == 0
    assert tables(cluster) == {"a.*": frozenset(), "j.*": {"jobs"}}
    cluster.beat("n", -1)
    assert tables(cluster) == {"j.*": {"jobs"}}
    enter(cluster, "m", "")
    assert tables(cluster) == {}, "an empty expression is none"
    assert cluster.kinds()[-3:].count("-RegularExpression") <= 1
    cluster.restart()
    assert tables(cluster) == {}


@pytest.mark.parametrize("regex", ["a[", "(?=x)a", "(a)\\1"])
def test_what_re2_does_not_take_is_refused(cluster: ConsumerCluster, regex: str) -> None:
    answer = enter(cluster, "m", regex)
    assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
    assert regex in answer.error_message
    assert cluster.log.log_end_offset == 0


def test_evil_expression_takes_no_time(cluster: ConsumerCluster) -> None:
    cluster.topics.create("a" * 60 + "b", 1)
    assert enter(cluster, "m", "(a*)*").error_code == 0
    assert tables(cluster) == {"(a*)*": frozenset()}


def test_without_re2_it_says_what_to_install(cluster: ConsumerCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    answer = enter(cluster, "m", "a.*")
    assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
    assert "pip install 'ottla[re2]'" in answer.error_message
    assert cluster.enter("m").error_code == 0, "names need nothing"


def test_without_re2_what_another_coordinator_found_still_holds(
    cluster: ConsumerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a1 = cluster.topics.create("a1", 1)
    enter(cluster, "m", "a.*")
    monkeypatch.setitem(sys.modules, "re2", None)
    cluster.restart()
    cluster.topics.create("a2", 1)
    cluster.coordinator.topics_changed()
    cluster.run(100)
    assert cluster.beat("m", 1, owned={a1: {0}}).error_code == 0
    assert tables(cluster) == {"a.*": {"a1"}}
