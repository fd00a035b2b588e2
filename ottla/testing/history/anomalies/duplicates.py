"""Duplicates: a record that is there twice, or an input that was processed twice."""

from collections.abc import Iterator

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import At, Seen, Send
from ottla.testing.history.verdict import Anomaly, Kind


def duplicates(facts: Facts) -> Iterator[Anomaly]:
    """Values at two places. Tables, and topics whose producers may repeat, are left out."""
    repeating = facts.expectations.repeating | facts.expectations.tables
    for name, topic in facts.topics.items():
        if name in repeating:
            continue
        for first, other in _twice_committed(facts, name) if topic.has_transactions else topic.twice:
            own = _is_clients_own(facts, first, other)
            yield Anomaly(
                Kind.CLIENTS_DUPLICATE if own else Kind.DUPLICATE,
                f"{other.value} stands in {name}-{first.partition} at {first.offset} and again in "
                f"{name}-{other.partition} at {other.offset}",
                (*_sends(facts, first, other), *facts.polls_of(first, 1), *facts.polls_of(other, 1)),
            )


def _is_clients_own(facts: Facts, first: Seen, other: Seen) -> bool:
    """Its library sent it again as another record: under a higher epoch, to which it says that it went by itself."""
    if first.partition != other.partition or first.transaction is not None or other.transaction is not None:
        return False
    before, after = sorted((first, other), key=lambda one: one.offset)
    once, again = facts.writer(before), facts.writer(after)
    if once is None or again is None or once.producer_id != again.producer_id or once.epoch >= again.epoch:
        return False
    return (again.producer_id, again.epoch) in facts.renumbered


def _sends(facts: Facts, *records: Seen) -> list[Send]:
    found: list[Send] = []
    for record in records:
        send = facts.sent(record)
        if send is not None and send not in found:
            found.append(send)
    return found


def _twice_committed(facts: Facts, name: str) -> Iterator[tuple[Seen, Seen]]:
    """An aborted attempt may have written the same before; only what is committed counts."""
    values: dict[str | None, Seen] = {}
    for partition, log in facts.logs.items():
        if partition.topic == name:
            for record in log.seen.values():
                if record.value is not None and facts.is_committed(record):
                    first = values.setdefault(record.value, record)
                    if first is not record:
                        yield first, record


def processed_twice(facts: Facts) -> Iterator[Anomaly]:
    """Two committed records of one topic that were made of the same record of the input."""
    made: dict[tuple[str, At], Send] = {}
    repeating = facts.expectations.repeating
    for send, place in zip(facts.history.sends, facts.places, strict=True):
        if send.source is None or send.transaction is None or send.topic in repeating or place is None:
            continue
        if not facts.transactions[send.transaction].has_committed:
            continue
        first = made.setdefault((send.topic, send.source), send)
        if first is not send and first.value != send.value:
            yield Anomaly(
                Kind.DUPLICATE,
                f"{send.source.topic}-{send.source.partition} offset {send.source.offset} was processed twice: "
                f"{first.value} and {send.value} were made of it",
                (first, send),
            )
