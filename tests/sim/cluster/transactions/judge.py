"""What a history of transactions must satisfy. Pure: a history in, `Violation` out.

- a transaction is seen whole or not at all: all of its records if a client was told that it committed, none if nobody
  ever asked for that
- no record is there twice; no record of the input was made into two
- offsets are committed with the records that were made of what lies before them
- whoever reads committed records is given those that are committed in the end, all of them and in order, at any time
- in a generation of a group, nobody else has a partition that a member has
"""

from collections import Counter
from collections.abc import Iterable

from tests.sim.cluster.transactions.history import (
    Assigned,
    Attempt,
    History,
    Partition,
    Read,
    Seen,
    Source,
    attempt_of,
    sources_of,
)
from tests.sim.raft.violation import Violation


def judge(history: History) -> None:
    """Raises Violation."""
    one_member_each(history.assigned)
    for read in history.reads:
        was_committed(read, history.outputs[read.partition], history.attempts)
    for partition, records in history.outputs.items():
        none_twice(partition, records)
    all_or_nothing(history)
    for partition, records in history.outputs.items():
        made_once(partition, records)
        offsets_agree(partition, records, history)


def all_or_nothing(history: History) -> None:
    """Each transaction, over all of its partitions."""
    found: dict[str, dict[Partition, list[bytes]]] = {}
    for partition, records in history.outputs.items():
        for record in records:
            found.setdefault(attempt_of(record.value), {}).setdefault(partition, []).append(record.value)
    for name in found:
        if name not in history.attempts:
            raise Violation("nothing from nowhere", f"records of {name}, which nobody sent")
    for name, attempt in history.attempts.items():
        seen = found.get(name, {})
        if attempt.told_committed and not seen and attempt.sent:
            raise Violation("committed stays", f"{name} was committed, and nothing of it is there")
        if seen and not attempt.asked_to_commit:
            raise Violation("aborted stays unseen", f"{name} was never to be committed, and is seen: {seen}")
        if seen and seen != attempt.sent:
            raise Violation("transactions are atomic", f"of {name} there is {_counts(seen)} of {_counts(attempt.sent)}")


def _counts(records: dict[Partition, list[bytes]]) -> dict[str, int]:
    return {f"{topic}-{index}": len(values) for (topic, index), values in records.items()}


def none_twice(partition: Partition, records: Iterable[Seen]) -> None:
    """Each value that was sent is unique."""
    for value, times in Counter(record.value for record in records).items():
        if times > 1:
            raise Violation("no duplicates", f"{value!r} is {times} times in {partition}")


def made_once(partition: Partition, records: Iterable[Seen]) -> None:
    """Exactly once: no input counts twice, whoever processed it."""
    for source, times in Counter(sources_of(records)).items():
        if times > 1:
            raise Violation("processed once", f"{source} was made into {times} records of {partition}")


def offsets_agree(partition: Partition, records: Iterable[Seen], history: History) -> None:
    """What lies before a committed offset was processed, and nothing else was."""
    made = set(sources_of(records))
    for index, offsets in history.inputs.items():
        committed = history.offsets.get(index, 0)
        for offset in offsets:
            if (Source(index, offset) in made) != (offset < committed):
                what = "is not processed" if offset < committed else "is processed"
                raise Violation(
                    "offsets go with records",
                    f"offset {committed} of {index} is committed, {offset} {what} ({partition})",
                )


def was_committed(read: Read, committed: list[Seen], attempts: dict[str, Attempt]) -> None:
    """What a reader was given is what is committed in the end, from the one offset to the other."""
    expected = [record for record in committed if read.position <= record.offset < read.end]
    if list(read.records) == expected:
        return
    extra = [record for record in read.records if record not in expected]
    missing = [record for record in expected if record not in read.records]
    what = f"{read.reader} got of node {read.node} from {read.position} to {read.end} of {read.partition}: "
    if extra:
        attempt = attempts.get(attempt_of(extra[0].value))
        raise Violation("only committed is read", f"{what}{extra}, which is not committed ({attempt})")
    raise Violation("all that is committed is read", f"{what}without {missing}")


def one_member_each(assigned: Iterable[Assigned]) -> None:
    """A partition has one owner in a generation."""
    owners: dict[tuple[str, int, int], str] = {}
    for one in assigned:
        for partition in one.partitions:
            owner = owners.setdefault((one.group, one.generation, partition), one.member)
            if owner != one.member:
                raise Violation(
                    "one member a partition",
                    f"generation {one.generation} of {one.group}: {owner} and {one.member} have partition {partition}",
                )
