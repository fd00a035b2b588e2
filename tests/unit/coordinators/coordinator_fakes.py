"""What a coordinator in a test is given, and where its answers arrive."""

from collections.abc import Callable
from typing import Any

from ottla.coordinators.groups.service import CONSUMER_OFFSETS
from ottla.core.errors import ErrorCode
from ottla.core.types import Uuid
from ottla.testing.sim.clock import SimClock
from tests.unit.coordinators.fake_log import FakeLog

TOPIC_ID = Uuid(b"topic-id-of-jobs")


class FakeTopics:
    """`jobs` with eight partitions, and the internal topic with one, so that all groups share a shard."""

    def __init__(self) -> None:
        self.counts = {"jobs": 8, CONSUMER_OFFSETS: 1}
        self.jobs_id = TOPIC_ID
        self.other_ids: dict[str, Uuid] = {}

    def create(self, name: str, partitions: int) -> Uuid:
        """A topic, or a new one of the same name."""
        topic_id = Uuid(f"{name}#{len(self.other_ids)}".encode().ljust(16, b"-")[:16])
        self.counts[name], self.other_ids[name] = partitions, topic_id
        return topic_id

    def topic_id(self, name: str) -> Uuid | None:
        if name not in self.counts:
            return None
        return self.jobs_id if name == "jobs" else self.other_ids.get(name)

    def topic_name(self, topic_id: Uuid) -> str | None:
        if topic_id == self.jobs_id:
            return "jobs"
        return next((name for name, one in self.other_ids.items() if one == topic_id and name in self.counts), None)

    def partition_count(self, name: str) -> int:
        return self.counts.get(name, 0)

    def names(self) -> list[str]:
        return [name for name in self.counts if name != CONSUMER_OFFSETS]


class FakeVerifier:
    """Says what `answers` has for the next questions, NONE when that is empty; with `hold` it waits for `answer`."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.asked: list[tuple[str, int, int, str, int, bool]] = []
        self.answers: list[ErrorCode] = []
        self.hold = False
        self._held: list[Callable[[ErrorCode], None]] = []

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: Callable[[ErrorCode], None],
    ) -> None:
        self.asked.append((transactional_id, producer_id, producer_epoch, topic, index, verify_only))
        if self.hold:
            self._held.append(done)
        else:
            self._clock.call_soon(done, self.answers.pop(0) if self.answers else ErrorCode.NONE)

    def answer(self, code: ErrorCode = ErrorCode.NONE) -> None:
        """The oldest question that is held."""
        self._held.pop(0)(code)


class Answer:
    """Where a response arrives; a second one is an error."""

    def __init__(self, log: FakeLog | None = None) -> None:
        self.responses: list[Any] = []
        self.refused_before = 0
        """How many appends had failed when the response came."""
        self._log = log

    def __call__(self, response: Any) -> None:
        assert not self.responses, f"answered twice: {self.responses} {response}"
        self.responses.append(response)
        self.refused_before = self._log.refused if self._log is not None else 0

    @property
    def arrived(self) -> bool:
        return bool(self.responses)

    def take(self) -> Any:
        assert self.responses, "not answered yet"
        return self.responses[0]

    @property
    def code(self) -> ErrorCode:
        return ErrorCode(self.take().error_code)


def quiet(event: str, **fields: Any) -> None:
    """A log that nobody reads, in which a defect of ours is not forgiven."""
    assert event != "coordinator_operation_failed", fields
