"""Divergent offsets: two records at one offset, or one record at another offset than was acknowledged."""

from collections.abc import Iterator

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import Outcome, Send
from ottla.testing.history.verdict import Anomaly, Kind


def divergent(facts: Facts) -> Iterator[Anomaly]:
    """Readers that disagree, acknowledgements that disagree, and an acknowledgement that disagrees with readers."""
    for partition, log in facts.logs.items():
        for one in log.divergences:
            yield Anomaly(
                Kind.DIVERGENT_OFFSET,
                f"at offset {one.first.offset} of {partition} stands {one.first.value}, and for {one.poll.process} "
                f"{one.other.value}",
                facts.polls_of(one.first),
            )
    acknowledged: dict[tuple[str, int, int], Send] = {}
    unplaced = facts.expectations.repeating | facts.expectations.tables
    for send, place in zip(facts.history.sends, facts.places, strict=True):
        if send.outcome is not Outcome.OK or send.offset < 0:
            continue
        first = acknowledged.setdefault((send.topic, send.partition, send.offset), send)
        if first is not send:
            yield Anomaly(
                Kind.DIVERGENT_OFFSET,
                f"{first.value} and {send.value} were both acknowledged at offset {send.offset} of "
                f"{send.topic}-{send.partition}",
                (first, send),
            )
        if place is None or place == (send.partition, send.offset) or send.topic in unplaced:
            continue
        there = facts.log(send.topic, send.partition).seen.get(send.offset)
        if there is None or facts.sent(there) is not send:
            record = facts.log(send.topic, place.partition).seen[place.offset]
            yield Anomaly(
                Kind.DIVERGENT_OFFSET,
                f"{send.value} was acknowledged at offset {send.offset} of {send.topic}-{send.partition} and stands at "
                f"{place.offset} of {send.topic}-{place.partition}",
                (send, *facts.polls_of(record, 1)),
            )
