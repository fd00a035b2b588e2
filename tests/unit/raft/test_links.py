"""What waits for a peer."""

from ottla.raft.links import Outgoing


def test_what_waits_goes_out_in_order_as_one_frame() -> None:
    outgoing = Outgoing(max_bytes=100, batch_bytes=50)
    assert all([outgoing.put(b"one"), outgoing.put(b"two"), outgoing.put(b"three")])
    assert (len(outgoing), outgoing.size_bytes) == (3, 11)
    assert outgoing.take() == b"onetwothree"
    assert (len(outgoing), outgoing.size_bytes) == (0, 0)


def test_a_batch_ends_before_it_is_too_long() -> None:
    outgoing = Outgoing(max_bytes=100, batch_bytes=10)
    for frame in (b"a" * 6, b"b" * 4, b"c" * 11, b"d", b"e"):
        outgoing.put(frame)
    assert outgoing.take() == b"a" * 6 + b"b" * 4
    assert outgoing.take() == b"c" * 11  # longer than a batch: alone
    assert outgoing.take() == b"de"


def test_what_comes_when_too_much_waits_is_dropped() -> None:
    outgoing = Outgoing(max_bytes=10, batch_bytes=10)
    assert outgoing.put(b"a" * 6)
    assert not outgoing.put(b"b" * 5)
    assert outgoing.put(b"c" * 4)
    assert outgoing.take() == b"aaaaaacccc"
    assert outgoing.put(b"d" * 10)


def test_what_waits_can_be_forgotten() -> None:
    outgoing = Outgoing(max_bytes=10, batch_bytes=10)
    outgoing.put(b"a" * 10)
    outgoing.clear()
    assert (len(outgoing), outgoing.size_bytes) == (0, 0)
    assert outgoing.put(b"b" * 10)
