"""Clients that propose and read, retry where they may, and write down what they were told."""

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random

from examples.kv import commands
from examples.kv.commands import Answer, Status
from ottla.raft.quorum import Committed, NotLeader, Overloaded, ProposalLost, RequestId, SessionExpired
from ottla.testing.sim.register import Action, Append, CompareAndSet, History, Read, Write
from tests.sim.raft.calls import Calls
from tests.sim.raft.checker import Checker
from tests.sim.raft.host import Host, Process
from tests.sim.raft.readers import NOT_DONE, UNKNOWN, read
from tests.sim.raft.violation import Violation


class Client:
    """One operation after the other, on a few keys."""

    def __init__(
        self, name: str, calls: Calls, hosts: Sequence[Host], checker: Checker, history: History, random: Random
    ) -> None:
        self.name, self.calls, self.hosts, self.checker, self.history = name, calls, hosts, checker, history
        self.random = random
        self.stopped = False
        self.acknowledged = 0
        self._options = calls.setting.options
        self._guess = self._former = hosts[0]
        self._session: int | None = None
        self._sequence = 0
        self._operations = 0
        self._answered: deque[tuple[RequestId, bytes, Answer]] = deque(maxlen=3)  # in this session, not resolved yet
        self._copies: list[asyncio.Task[None]] = []

    @property
    def _now(self) -> float:
        return self.calls.setting.world.now_s

    async def run(self, *, session: bool) -> None:
        """Until it is stopped."""
        while not self.stopped:
            await asyncio.sleep(self.random.expovariate(1 / self._options.think_s))
            if self.random.random() < 0.3:
                await self._read()
            elif session and self._session is None:
                await self._open_session()
            elif self._answered and self.random.random() < self._options.repeats:
                await self._repeat()
            else:
                await self._propose(session=session)

    # -- operations

    async def _read(self) -> None:
        key = self._key()
        number = self.history.invoke(self.name, key, Read(), self._now)
        host = self._pick_for_reading()
        try:
            value = await read(self.calls, self.checker, host, key, within_s=2.0)
        except (*UNKNOWN, *NOT_DONE) as error:
            if host is self._guess:
                self._look_elsewhere(error)
        else:
            self.history.complete(number, self._now, Read(value))

    async def _open_session(self) -> None:
        try:
            _, self._session = await self.calls.call(self._pick(), lambda raft: raft.open_session(), within_s=2.0)
            self._sequence = 0
            self._answered.clear()
        except (*UNKNOWN, *NOT_DONE) as error:
            self._look_elsewhere(error)

    async def _propose(self, *, session: bool) -> None:
        action = self._action(self._key_for_writing())
        number = self.history.invoke(self.name, action[0], action[1], self._now)
        data = commands.encode(action[2])
        self.checker.logs.outstanding += 1
        try:
            if session:
                answer = await self._insist(data)
            else:
                answer = await self._once(data)
        finally:
            self.checker.logs.outstanding -= 1
        if answer is None:
            return
        self.acknowledged += 1
        self.history.complete(number, self._now, _with_answer(action[1], answer))

    async def _once(self, data: bytes) -> Answer | None:
        """Without a session: tried again only while it surely was not proposed. None: the outcome is not known."""
        while not self.stopped:
            try:
                return await self._try(self._pick(), data, None)
            except UNKNOWN as error:
                self._look_elsewhere(error)
                return None
            except NOT_DONE as error:
                self._look_elsewhere(error)
                await asyncio.sleep(0.02 + self.random.random() * 0.2)
        return None

    async def _insist(self, data: bytes) -> Answer | None:
        """In a session: sent again until it is answered."""
        assert self._session is not None
        self._sequence += 1
        oldest = self._answered[0][0].sequence if self._answered else self._sequence
        request = RequestId(self._session, self._sequence, resolved_below=oldest)
        if self.random.random() < 0.1:
            self._hasty_copy(data, request)
        answer = await self._send_until_answered(data, request)
        if answer is not None:
            self._answered.append((request, data, answer))
        return answer

    async def _repeat(self) -> None:
        """Ask once more for what was answered: the first result has to come again, whatever happened since."""
        request, data, first = self.random.choice(self._answered)
        answer = await self._send_until_answered(data, request)
        if answer is not None and answer != first:
            self.checker.fail(Violation("applied once", f"{self.name} got {first} for {data!r}, and now {answer}"))

    async def _send_until_answered(self, data: bytes, request: RequestId) -> Answer | None:
        attempts = 0
        while not self.stopped or attempts < 100:
            attempts += 1
            try:
                return await self._try(self._pick(), data, request)
            except SessionExpired:
                self.checker.setting.coverage.note("session expired")
                self._session = None
                self._answered.clear()
                return None
            except (*UNKNOWN, *NOT_DONE) as error:
                self._look_elsewhere(error)
                await asyncio.sleep(0.02 + self.random.random() * 0.2)
        return None

    def _hasty_copy(self, data: bytes, request: RequestId) -> None:
        """The same to somebody, without waiting: what an impatient client does. Its answer is not waited for."""

        async def send() -> None:
            await asyncio.sleep(self.random.random() * self.random.choice([0.001, 0.3]))
            try:
                await self._try(
                    self.random.choice(self.hosts) if self.random.random() < 0.2 else self._guess, data, request
                )
            except SessionExpired:
                self.checker.setting.coverage.note("session expired")
            except (*UNKNOWN, *NOT_DONE):
                pass

        task = self.calls.loop.create_task(send())
        self._copies.append(task)

    async def _try(self, host: Host, data: bytes, request: RequestId | None) -> Answer:
        def answered(process: Process, committed: Committed) -> None:
            self.checker.acknowledged(process, committed.index)
            self._check_result(process, data, committed)

        _, committed = await self.calls.call(
            host, lambda raft: raft.propose(data, request), within_s=self.random.choice([0.3, 2.0]), answered=answered
        )
        return Answer.decode(committed.result)

    def _check_result(self, process: Process, data: bytes, committed: Committed) -> None:
        record = self.checker.setting.applied
        first = record.index_of.get(data)
        if first is None:
            return  # a deletion: nothing tells it from others
        if record.results[first][2] != committed.result:
            self.checker.fail(
                Violation("applied once", f"{process.member} answers {committed.result!r} for what is at {first}")
            )
        if first <= process.store.restored_index and committed.index > first:
            self.checker.setting.coverage.note("result kept across a snapshot")

    # -- choices

    def _pick(self) -> Host:
        return self._guess if self.random.random() < 0.95 else self.random.choice(self.hosts)

    def _pick_for_reading(self) -> Host:
        """Often whom this client took for the leader before: it may still believe that it is."""
        return self._former if self.random.random() < 0.3 else self._pick()

    def _look_elsewhere(self, error: Exception) -> None:
        coverage = self.checker.setting.coverage
        if isinstance(error, ProposalLost):
            coverage.note("proposal lost")
        if isinstance(error, Overloaded):
            coverage.note("overloaded")
            return
        leader = error.leader if isinstance(error, NotLeader) else None
        self._former = self._guess
        self._guess = next((h for h in self.hosts if h.node == leader), None) or self.random.choice(self.hosts)

    def _key(self) -> str:
        number = self.random.randrange(0, self._options.keys)
        return f"k{number}"

    def _key_for_writing(self) -> str:
        return self._key()

    def _action(self, key: str) -> tuple[str, Action, commands.Command]:
        """Even keys are appended to, odd ones set, compared and deleted."""
        self._operations += 1
        name = f"{self.name}.{self._operations};".encode()
        if self.random.random() < self._options.large:
            name += bytes(self.random.choice([500, 3000]))
        encoded = key.encode()
        if int(key[1:]) % 2 == 0:
            return key, Append(name), commands.Append(encoded, name)
        match self.random.randrange(0, 6):
            case 0:
                return key, Write(None), commands.Delete(encoded)
            case 1 | 2:
                expected = self.random.choice([None, *self._seen(key)])
                return key, CompareAndSet(expected, name), commands.CompareAndSet(encoded, expected, name)
        return key, Write(name), commands.Set(encoded, name)

    def _seen(self, key: str) -> list[bytes]:
        """Values that the record of applied entries shows; a client would have read them."""
        process = self._guess.process
        value = process.store.get(key.encode()) if process is not None else None
        return [value] * 3 if value is not None else []


def _with_answer(action: Action, answer: Answer) -> Action:
    match action:
        case Append(suffix):
            return Append(suffix, answer.length)
        case Write(None):
            return Write(None, answer.status is Status.OK)
        case CompareAndSet(expected, value):
            return CompareAndSet(expected, value, answer.status is Status.OK)
    return action
