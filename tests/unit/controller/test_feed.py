"""A controller that is fed by the quorum's log, by what others tell, and by one after the other."""

import random

from ottla.controller.controller import Controller
from ottla.controller.feed import Feed
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Snapshot
from ottla.v1 import metadata_pb2 as pb


def controller() -> Controller:
    return Controller(NodeId(9), random=random.Random(1), static_configs={})


def entry(index: int) -> Entry:
    """Each adds to a count: applied twice it would show."""
    record = pb.MetadataRecord(producer_ids=pb.ProducerIdsRecord(broker_id=1, next_producer_id=index * 1000))
    return Entry(index, 1, pb.MetadataBatch(version=1, records=[record]).SerializeToString())


def is_observing(feed: Feed) -> bool:
    return feed.is_observing


def snapshot_at(index: int) -> Snapshot:
    state = controller()
    for n in range(1, index + 1):
        state.apply(entry(n))
    return Snapshot(index, 1, state.snapshot()())


def test_the_log_alone_feeds_the_controller() -> None:
    state = controller()
    feed = Feed(state)
    seen: list[int] = []
    state.subscribe(lambda image, _: seen.append(image.offset))
    feed.restore(snapshot_at(3))
    feed.apply(entry(4))
    assert seen == [3, 4]
    assert not is_observing(feed)
    assert feed.snapshot()() == snapshot_at(4).data


def test_what_is_observed_is_applied_once_and_the_log_takes_over_where_it_has_caught_up() -> None:
    state = controller()
    feed = Feed(state)
    seen: list[int] = []
    state.subscribe(lambda image, _: seen.append(image.offset))
    feed.observed(snapshot_at(5))
    feed.observed(entry(5))
    feed.observed(entry(6))
    assert (seen, is_observing(feed)) == ([5, 6], True)
    for n in range(1, 6):  # made a voter: its log begins at the beginning
        feed.apply(entry(n))
        assert feed.snapshot()() == snapshot_at(n).data
    assert is_observing(feed)
    feed.observed(entry(7))
    feed.apply(entry(6))
    feed.apply(entry(7))
    assert not is_observing(feed)
    feed.apply(entry(8))
    assert seen == [5, 6, 7, 8]
    feed.observed(entry(7))  # late
    assert not is_observing(feed)


def test_a_log_that_comes_with_a_snapshot_takes_over_at_once_or_when_it_has_caught_up() -> None:
    for index, observing in ((4, True), (6, False), (8, False)):
        state = controller()
        feed = Feed(state)
        feed.observed(snapshot_at(6))
        feed.restore(snapshot_at(index))
        assert is_observing(feed) is observing
        assert state.image.offset == max(6, index)
        assert feed.snapshot()() == snapshot_at(index).data


def test_a_node_that_is_a_voter_no_more_goes_on_from_what_it_has() -> None:
    state = controller()
    feed = Feed(state)
    for n in (1, 2):
        feed.apply(entry(n))
    feed.observed(entry(3))
    assert state.image.offset == 3
    assert feed.snapshot()() == snapshot_at(2).data
