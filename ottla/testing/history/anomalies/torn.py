"""Torn transactions: some of one's records are there, others are not; and transactions that never end."""

from collections.abc import Iterator

from ottla.testing.history.facts import Facts, of_transaction
from ottla.testing.history.operations import Outcome, TopicPartition
from ottla.testing.history.transactions import ends_of
from ottla.testing.history.verdict import Anomaly, Kind


def torn(facts: Facts) -> Iterator[Anomaly]:
    """Of committed transactions that show."""
    for transaction in facts.transactions.values():
        poll = transaction.shown
        if poll is None or not transaction.may_have_committed:
            continue
        missing = [
            send
            for send in transaction.sends
            if send.topic not in facts.expectations.tables and facts.must_show(send) and facts.is_hidden(send)
        ]
        if missing:
            acknowledged = sum(send.outcome is Outcome.OK for send in transaction.sends)
            yield Anomaly(
                Kind.TORN_TRANSACTION,
                f"{len(missing)} of {acknowledged} records of {transaction.name} do not show, the others do",
                (*missing[:3], of_transaction(poll, transaction.name), *ends_of([transaction])),
            )


def left_open(facts: Facts) -> Iterator[Anomaly]:
    """When all is over, the last stable offset is the end."""
    stable: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    final = [one for one in facts.history.end_offsets if one.final and one.outcome is Outcome.OK]
    for told in final:
        for at in told.offsets:
            (stable if told.committed else ends)[TopicPartition(at.topic, at.partition)] = at.offset
    for partition, end in ends.items():
        if stable.get(partition, end) < end:
            yield Anomaly(
                Kind.LEFT_OPEN,
                f"all has ended, and the last stable offset of {partition} is {stable[partition]}, below the end {end}",
                tuple(final),
            )
