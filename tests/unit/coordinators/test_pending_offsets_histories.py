"""Random histories of transactions' offsets, with crashes, against what the log says when it is read most plainly.

python -m pytest tests/unit/coordinators/test_pending_offsets_histories.py -k 17   # the history of one seed again
"""

import random
from dataclasses import dataclass, field
from functools import cache

import pytest

from ottla.coordinators.groups.offset_codec import decode_key, decode_value
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.producer_state import ProducerStates
from ottla.records.batch import decode_records, validate
from ottla.records.control import read_end_transaction_marker
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.fake_log import FakeLog
from tests.unit.coordinators.group_cluster import Cluster
from tests.unit.coordinators.test_groups_admin import delete as delete_groups
from tests.unit.coordinators.test_groups_offsets import delete as delete_offsets

GROUPS = ("g", "h")
PARTITIONS = range(3)
VERSIONS = {1: 1, 2: 2, 3: 2}
"""Of the transactions of each producer."""
STEPS = 120

Place = tuple[str, int]


@dataclass
class Producer:
    """What its transaction coordinator knows."""

    producer_id: int
    epoch: int = 0
    ending: bool | None = None
    """Whether it commits, once that is decided; then the marker is sent until it is written."""
    marker: Answer | None = None

    @property
    def version(self) -> int:
        return VERSIONS[self.producer_id]


@dataclass
class Said:
    """What the log says about one place."""

    values: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset in the log, producer id or -1, committed offset)"""
    deleted_at: int = -1


@cache
def _offsets_in(batch: bytes) -> list[tuple[int, Place, int | None]]:
    """(offset in the log, place, committed offset or None for its tombstone)"""
    found: list[tuple[int, Place, int | None]] = []
    for record in decode_records(batch):
        assert record.key is not None
        if record.key[:2] == b"\0\1":
            key = decode_key(record.key)
            offset = None if record.value is None else decode_value(record.value).offset
            found.append((record.offset, (key.group, key.partition), offset))
    return found


class Reference:
    """Looks at all records for every question."""

    def __init__(self, batches: list[bytes]) -> None:
        self.places: dict[Place, Said] = {}
        self.markers: list[tuple[int, int, bool]] = []
        self.offsets: set[int] = set()
        for batch in batches:
            header = validate(batch)
            if header.is_control:
                committed = read_end_transaction_marker(batch).committed
                self.markers.append((header.base_offset, header.producer_id, committed))
                continue
            for at, place, offset in _offsets_in(batch):
                said = self.places.setdefault(place, Said())
                if offset is None:
                    said.deleted_at = at
                else:
                    self.offsets.add(offset)
                    said.values.append((at, header.producer_id, offset))

    def _outcome(self, at: int, producer_id: int) -> bool | None:
        """Of the transaction whose record stands at that offset; None while it is open."""
        if producer_id < 0:
            return True
        return next((committed for end, ended, committed in self.markers if end > at and ended == producer_id), None)

    def fetch(self, group: str, *, require_stable: bool) -> dict[int, int]:
        found = {}
        for partition in PARTITIONS:
            said = self.places.get((group, partition), Said())
            alive = [value for value in said.values if value[0] > said.deleted_at]
            visible = [offset for at, producer_id, offset in alive if self._outcome(at, producer_id)]
            unstable = any(self._outcome(at, producer_id) is None for at, producer_id, _ in alive)
            found[partition] = -2 if require_stable and unstable else visible[-1] if visible else -1
        return found


class History:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = Cluster(offsets_retention_minutes=60, offsets_retention_check_interval_ms=60_000)
        self.producers = {producer_id: Producer(producer_id) for producer_id in VERSIONS}
        self.count = 0
        self.promised: list[tuple[Answer, list[int]]] = []

    def run(self) -> None:
        actions = {
            self.commit: 6,
            self.pend: 8,
            self.end: 5,
            self.refuse_an_append: 2,
            self.refuse_a_question: 1,
            self.delete: 1,
            self.forget_the_topic: 0.3,
            self.pass_time: 0.5,
            self.lead_anew: 1,
            self.crash: 2,
            self.look: 4,
        }
        for _ in range(STEPS):
            (action,) = self.random.choices(list(actions), list(actions.values()))
            action()
            if self.random.random() < 0.5:
                self.settle()
        self.look()
        self.cluster.restart()
        self.look()

    # --- what happens

    def _offsets(self) -> dict[int, int]:
        chosen = self.random.sample(PARTITIONS, self.random.randint(1, len(PARTITIONS)))
        self.count += len(chosen)
        return {partition: self.count - place for place, partition in enumerate(chosen)}

    def commit(self) -> None:
        offsets = self._offsets()
        answer = self.cluster.commit(offsets, group=self.random.choice(GROUPS))
        self.promised.append((answer, list(offsets.values())))

    def pend(self) -> None:
        producer = self.random.choice(list(self.producers.values()))
        if producer.ending is not None:
            return
        offsets = self._offsets()
        answer = self.cluster.commit_transactional(
            offsets,
            producer=producer.producer_id,
            epoch=producer.epoch,
            group=self.random.choice(GROUPS),
            version=5 if producer.version == 2 else 4,
        )
        self.promised.append((answer, list(offsets.values())))

    def end(self) -> None:
        producer = self.random.choice(list(self.producers.values()))
        if producer.ending is None:
            producer.ending = self.random.random() < 0.6
        self._send_marker(producer)

    def _send_marker(self, producer: Producer) -> None:
        assert producer.ending is not None
        if producer.marker is None:
            producer.marker = self.cluster.end_transaction(
                producer.ending,
                producer=producer.producer_id,
                epoch=producer.epoch + (producer.version == 2),
                version=producer.version,
            )

    def refuse_an_append(self) -> None:
        self.cluster.log.refusals.append(ApiError(ErrorCode.NOT_ENOUGH_REPLICAS))

    def refuse_a_question(self) -> None:
        self.cluster.verifier.answers.append(self.random.choice([ErrorCode.INVALID_TXN_STATE, ErrorCode.NONE]))

    def delete(self) -> None:
        if self.random.random() < 0.5:
            delete_groups(self.cluster, self.random.choice(GROUPS))
        else:
            delete_offsets(self.cluster, self.random.choice(PARTITIONS))

    def forget_the_topic(self) -> None:
        self.cluster.coordinator.topic_deleted("jobs")

    def pass_time(self) -> None:
        self.cluster.run(self.random.choice([30, 70]) * 60_000)

    def lead_anew(self) -> None:
        """Another node led for a while, and has written nothing."""
        self.settle()
        self.cluster.epoch += 1
        self.cluster.log.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.cluster.coordinator.lead(0, self.cluster.log, self.cluster.epoch)
        self.settle()

    def crash(self) -> None:
        """Of what is not committed, any part may be lost."""
        cluster = self.cluster
        cluster.log.auto_commit = False
        for _ in range(self.random.randint(0, 4)):
            self.random.choice([self.commit, self.pend, self.end])()
            if self.random.random() < 0.7:
                cluster.run()
        self._take_answers()
        kept = [
            batch
            for batch in cluster.log.batches
            if validate(batch).last_offset < cluster.log.high_watermark or self.random.random() < 0.5
        ]
        # Only a beginning can survive.
        end = next((n for n, batch in enumerate(kept) if batch is not cluster.log.batches[n]), len(kept))
        del cluster.log.batches[end:]
        cluster.log.log_end_offset = validate(cluster.log.batches[-1]).next_offset if cluster.log.batches else 0
        cluster.log.producers = _producers(cluster.log)
        self.promised.clear()
        for producer in self.producers.values():
            producer.marker = None
        cluster.restart()
        for producer in self.producers.values():
            if producer.ending is not None:
                self._send_marker(producer)
        self.settle()

    # --- what must hold

    def settle(self) -> None:
        self.cluster.run()
        self._take_answers()

    def _take_answers(self) -> None:
        for producer in self.producers.values():
            if producer.marker is not None and producer.marker.arrived:
                if producer.marker.take() is ErrorCode.NONE:
                    producer.ending = None
                    producer.epoch += producer.version == 2
                producer.marker = None
        waiting = []
        written = Reference(self.cluster.log.batches).offsets
        for answer, offsets in self.promised:
            if not answer.arrived:
                waiting.append((answer, offsets))
                continue
            codes = self.cluster.committed_codes(answer)
            assert len(set(codes)) == 1
            assert (codes[0] is ErrorCode.NONE) == (set(offsets) <= written), "what was said is what was written"
        self.promised = waiting

    def look(self) -> None:
        """What clients see is what the log says."""
        self.settle()
        reference = Reference(self.cluster.log.batches)
        for group in GROUPS:
            for require_stable in (False, True):
                found = self.cluster.fetch(group, partitions=tuple(PARTITIONS), require_stable=require_stable)
                assert found == reference.fetch(group, require_stable=require_stable)
        (shard,) = self.cluster.coordinator.runtime.active_shards()
        for group in GROUPS:
            seen = reference.fetch(group, require_stable=True)
            assert (group in shard.groups) == any(offset != -1 for offset in seen.values())


def _producers(log: FakeLog) -> ProducerStates:
    """As a partition finds them again."""
    states = ProducerStates()
    for batch in log.batches:
        header = validate(batch)
        if header.is_control:
            states.record_marker(header, header.base_offset, 0, read_end_transaction_marker(batch))
        elif header.producer_id >= 0:
            states.record(header, header.base_offset, 0)
    return states


@pytest.mark.parametrize("seed", range(40))
def test_what_clients_see_is_what_the_log_says(seed: int) -> None:
    History(seed).run()
