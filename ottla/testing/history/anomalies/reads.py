"""Reads that must not be: of aborted transactions, of what is not committed yet, of what nobody sent."""

from collections.abc import Iterator

from ottla.testing.history.facts import Facts, of_transaction
from ottla.testing.history.operations import Outcome, Seen
from ottla.testing.history.transactions import ends_of
from ottla.testing.history.verdict import Anomaly, Kind


def aborted_and_uncommitted(facts: Facts) -> Iterator[Anomaly]:
    """What readers of committed records were given too early, or at all."""
    for transaction in facts.transactions.values():
        poll = transaction.shown
        if poll is None or not (transaction.begins or transaction.ends or transaction.sends):
            continue
        operations = (*transaction.begins, *ends_of([transaction]), of_transaction(poll, transaction.name))
        if not transaction.may_have_committed:
            why = "was aborted" if transaction.ends else "was never to be committed"
            yield Anomaly(Kind.ABORTED_READ, f"{transaction.name} {why}, and {poll.process} saw it", operations)
        elif (poll.completed_ns or 0) < transaction.commit_asked_ns:
            yield Anomaly(
                Kind.UNCOMMITTED_READ,
                f"{poll.process} saw {transaction.name} before anybody asked for its commit",
                operations,
            )


def from_nowhere(facts: Facts) -> Iterator[Anomaly]:
    """Records that nobody sent, or whose sender was told that they were refused."""
    for partition, log in facts.logs.items():
        topic = facts.topics[partition.topic]
        if not topic.sent:
            continue  # it was there before, or is another's
        for record in log.seen.values():
            plain = record[5] is None and not topic.is_table  # most are, and need no more than a look
            send = topic.sent.get(record[3]) if plain else facts.sent(record)
            if send is None or send.outcome is Outcome.FAILED:
                yield _nowhere(facts, record)


def _nowhere(facts: Facts, record: Seen) -> Anomaly:
    send = facts.sent(record)
    why = "nobody sent it" if send is None else f"its sender was told that it was refused: {send.error}"
    sent = () if send is None else (send,)
    return Anomaly(
        Kind.FROM_NOWHERE,
        f"{record.value} stands at offset {record.offset} of {record.topic}-{record.partition}, and {why}",
        (*sent, *facts.polls_of(record, 1)),
    )
