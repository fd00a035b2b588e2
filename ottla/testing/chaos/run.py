"""One run from beginning to end: workloads on a cluster, faults meanwhile, rest afterwards, and the verdict.

`run` does it on a throw-away cluster of its own, `check_cluster` on one that it does not touch.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from ottla.core.errors import ConfigError
from ottla.testing.chaos import gaps
from ottla.testing.chaos.catalog import NEMESES, make
from ottla.testing.chaos.clients import open_library
from ottla.testing.chaos.clients.port import Address, Failure, Library, Partition, Topic
from ottla.testing.chaos.clients_nemesis import CLIENT_NEMESES, ClientNemesis
from ottla.testing.chaos.crew import Crew
from ottla.testing.chaos.final import Ending
from ottla.testing.chaos.gaps import FaultWindow
from ottla.testing.chaos.limits import too_slow
from ottla.testing.chaos.nemesis import Fault, Nemesis
from ottla.testing.chaos.renumbered import note_renumbered
from ottla.testing.chaos.replicas import read_replicas
from ottla.testing.chaos.result import Result
from ottla.testing.chaos.schedule import AFTER_S, BEFORE_S, Step, kinds, steps
from ottla.testing.chaos.target import Target
from ottla.testing.chaos.worker import Task
from ottla.testing.chaos.workloads import append, bank, copying, expectations, workloads
from ottla.testing.chaos.workloads.plan import Role
from ottla.testing.history import Recorder, check, now_ns, read

Tell = Callable[[str], None]
Trouble = Callable[[Crew], Awaitable[list[FaultWindow]]]

SETTINGS: Final[dict[str, object]] = {
    # Members that are killed give up their partitions soon: with the defaults most of a run would wait for the dead.
    "group.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.heartbeat.interval.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    "log.cleaner.backoff.ms": 1000,
}
"""What a throw-away cluster is started with, so that a minute shows what otherwise takes an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. `seconds`: how long there are faults. `faults`: kinds, or several joined by `+`."""

    client: str
    workloads: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    seconds: float = 60.0
    seed: int = 0
    prefix: str = "chaos-"
    replication_factor: int = 3
    commit: str = ""


class Cluster(Target, Protocol):
    """A target that the run starts and ends itself."""

    @property
    def kind(self) -> str:
        """`ottla` or `kafka`."""
        ...

    @property
    def grpc(self) -> str:
        """Where gRPC clients begin; empty where there is no such door."""
        ...

    def start(self) -> Any:
        """Return when it takes writes."""
        ...

    def shut_down(self) -> None:
        """End all nodes in order, so that their files are whole."""
        ...

    def close(self) -> None:
        """End whatever is there, in any state."""
        ...


class Unreached(Failure):
    """The running cluster did not answer the first question; nothing was begun."""


async def run(
    plan: Plan, target: Cluster, directory: Path, tell: Tell, known: Mapping[str, type[Nemesis]] = NEMESES
) -> Result:
    """On `target`, which is not started yet; it is gone afterwards. `directory`: for histories and logs."""
    nemeses = {kind: make(kind, target, known) for kind in kinds(plan.faults) if kind not in CLIENT_NEMESES}
    try:
        tell(f"starting {len(target.nodes)} nodes")
        await asyncio.to_thread(target.start)
        address = Address(bootstrap=target.bootstrap, grpc=target.grpc)

        async def trouble(crew: Crew) -> list[FaultWindow]:
            own: dict[str, Nemesis | ClientNemesis] = dict(nemeses)
            own |= {kind: CLIENT_NEMESES[kind](crew) for kind in kinds(plan.faults) if kind in CLIENT_NEMESES}
            return await _trouble(plan, own, crew, tell)

        result, since_ns = await _work(plan, address, directory, trouble, tell)
        result.cluster, result.nodes = target.kind, len(target.nodes)
        tell("reading every replica's files")
        await asyncio.to_thread(target.shut_down)
        with Recorder(directory / "replicas.history", "replicas") as recorder:
            data = [(node, target.data(node)) for node in target.nodes]
            spoilt = {folder for nemesis in nemeses.values() for folder in nemesis.spoilt}
            result.replicas = await asyncio.to_thread(
                partial(read_replicas, without=spoilt), recorder, data, _decoders(plan)
            )
    finally:
        for nemesis in nemeses.values():
            nemesis.cleanup()
        target.close()
    await asyncio.to_thread(_judge, plan, result, directory, since_ns, tell)
    return result


async def check_cluster(plan: Plan, address: Address, directory: Path, tell: Tell, *, keep: bool) -> Result:
    """On a running cluster: topics with the plan's prefix are made, used, and deleted unless they are to be kept."""

    async def trouble(crew: Crew) -> list[FaultWindow]:
        await _undisturbed(crew, plan.seconds, tell)
        return []

    try:
        await _check_unused(plan, address)
    except Failure as error:
        raise Unreached(str(error)) from error
    try:
        result, since_ns = await _work(plan, address, directory, trouble, tell)
    finally:
        if not keep:
            await _delete_topics(plan, address, tell)
    await asyncio.to_thread(_judge, plan, result, directory, since_ns, tell)
    return result


async def _work(plan: Plan, address: Address, directory: Path, trouble: Trouble, tell: Tell) -> tuple[Result, int]:
    """Workloads, trouble, rest and the last reads; the result so far, and when its faults began."""
    chosen = workloads(plan.workloads)
    result = Result(
        cluster="",
        client=plan.client,
        faults=list(plan.faults),
        workloads=[one.name for one in chosen],
        seed=plan.seed,
        seconds=plan.seconds,
        commit=plan.commit,
        nodes=0,
    )
    task = Task(
        library=plan.client,
        address=address,
        prefix=plan.prefix,
        role=Role.STEADY,
        workloads=tuple(one.name for one in chosen),
        seed=plan.seed,
        history=directory,
    )
    async with AsyncExitStack() as stack:
        library = open_library(plan.client, address)
        stack.push_async_callback(library.close)
        tell(f"creating topics {plan.prefix}*")
        topics = [topic for one in chosen for topic in one.topics(plan.prefix, plan.replication_factor)]
        await _create(library, topics)
        recorder = stack.enter_context(Recorder(directory / "final.history", "final"))
        crew = stack.enter_context(Crew(task, directory))
        await asyncio.to_thread(crew.wait_until_working)
        since_ns = now_ns()
        result.windows = await trouble(crew)
        result.windows = [_since(window, since_ns) for window in result.windows]
        result.seconds = (now_ns() - since_ns) / 1e9
        await _come_to_rest(plan, library, recorder, crew, result, tell)
    return result, since_ns


async def _come_to_rest(
    plan: Plan, library: Library, recorder: Recorder, crew: Crew, result: Result, tell: Tell
) -> None:
    ending = Ending(library, recorder, plan.prefix, workloads(plan.workloads))
    tell("waiting until replicas are in sync, groups have read all and transactions have ended")
    await ending.until_in_sync()
    crew.check()
    crew.calm()
    await ending.until_sources_are_calm()
    await ending.until_read()
    late = await asyncio.to_thread(crew.finish)
    await ending.until_settled()
    tell("reading everything once more")
    await ending.read()
    rest = ending.rest
    result.in_sync_s, result.groups_s, result.transactions_s = rest.in_sync_s, rest.groups_s, rest.transactions_s
    result.stuck = [*rest.stuck, *late]


async def _trouble(
    plan: Plan, nemeses: dict[str, Nemesis | ClientNemesis], crew: Crew, tell: Tell
) -> list[FaultWindow]:
    """Faults for as long as the plan says. Everything is healed when this returns, also by an exception."""
    random = Random(plan.seed)
    windows: list[FaultWindow] = []
    since = time.monotonic()
    await _undisturbed(crew, BEFORE_S, tell)
    for step in steps(random, plan.faults):
        if time.monotonic() - since + step.quiet_s + step.hold_s > plan.seconds:
            break
        await asyncio.sleep(step.quiet_s)
        crew.check()
        windows += await _do(step, nemeses, random, since, len(windows), tell)
    for nemesis in nemeses.values():
        await nemesis.settle()
    await _undisturbed(crew, max(AFTER_S, plan.seconds - (time.monotonic() - since)), tell)
    return windows


async def _do(
    step: Step,
    nemeses: dict[str, Nemesis | ClientNemesis],
    random: Random,
    since: float,
    number: int,
    tell: Tell,
) -> list[FaultWindow]:
    """One step. Times in the windows are of the monotonic clock."""
    done: list[tuple[Fault, float]] = []
    begun = []
    try:
        for kind in step.kinds:
            at = time.monotonic()
            begun.append(nemeses[kind])
            fault = await nemeses[kind].inject(random)
            done.append((fault, at))
            tell(f"{at - since:5.1f} s  fault {number + len(done)}: {fault.name}, {fault.detail}")
        await asyncio.sleep(step.hold_s)
    finally:
        for nemesis in begun:
            await nemesis.heal()
    until = time.monotonic()
    return [FaultWindow(kind=fault.name, detail=fault.detail, since_s=at, until_s=until) for fault, at in done]


async def _undisturbed(crew: Crew, seconds: float, tell: Tell) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if seconds > 10:
            tell(f"{seconds - left:5.1f} s of {seconds:.0f} s")
        await asyncio.sleep(min(5.0, left))
        crew.check()


def _judge(plan: Plan, result: Result, directory: Path, since_ns: int, tell: Tell) -> None:
    """Read the history, and write the verdict into the result."""
    tell("checking the history")
    began = time.monotonic()
    result.renumbered = [f"{one.process}: {one.why}" for one in note_renumbered(directory)]
    history = read(directory)
    verdict = check(history, expectations(plan.prefix))
    result.checked_s = time.monotonic() - began
    result.operations, result.acknowledged = verdict.operations, verdict.acknowledged
    result.seen, result.unjudged = verdict.seen, verdict.unjudged
    result.anomalies = {str(kind): count for kind, count in verdict.counts().items()}
    result.excerpts = [str(verdict.of(kind)[0]) for kind in verdict.counts()]
    result.clients_own = [str(one) for one in verdict.clients_own]
    acknowledged = gaps.acknowledgements(history.sends, f"{plan.prefix}{append.TOPIC}", since_ns)
    if not acknowledged:
        return
    result.series = gaps.series(acknowledged, result.seconds)
    result.gaps = gaps.gaps(acknowledged, result.windows, result.seconds)
    result.longest_gap_ms = max(gaps.longest_gap_ms(times, 0.0, result.seconds) for times in acknowledged.values())
    result.slow = too_slow(result.gaps, result.windows)


def _decoders(plan: Plan) -> dict[str, Any]:
    """The topics, with what tells the transaction of a record."""
    seen = {copying.COPY: copying.seen, bank.TOPIC: bank.seen}
    return {
        topic.name: seen.get(topic.name.removeprefix(plan.prefix))
        for one in workloads(plan.workloads)
        for topic in one.topics(plan.prefix, 1)
    }


def _since(window: FaultWindow, since_ns: int) -> FaultWindow:
    return replace(window, since_s=window.since_s - since_ns / 1e9, until_s=window.until_s - since_ns / 1e9)


async def _check_unused(plan: Plan, address: Address) -> None:
    """Raises ConfigError when topics with these names are there: they are somebody's."""
    library = open_library(plan.client, address)
    try:
        names = [topic.name for one in workloads(plan.workloads) for topic in one.topics(plan.prefix, 1)]
        there = {one.at.topic for one in await _asked(library, names, 3)}
    finally:
        await library.close()
    if there:
        raise ConfigError(f"topic {min(there)} is there already: choose another --prefix")


async def _create(library: Library, topics: Sequence[Topic], attempts: int = 6) -> None:
    """Topics that may be there from an earlier attempt. A cluster that has only just started is given time."""
    names = [topic.name for topic in topics]
    for left in range(attempts, 0, -1):
        there = {one.at.topic for one in await _asked(library, names, attempts)}
        lacking = [topic for topic in topics if topic.name not in there]
        if not lacking:
            return
        try:
            await library.create_topics(lacking)
        except Failure:
            if left == 1:
                raise
            await asyncio.sleep(1.0)
        else:
            return


async def _asked(library: Library, names: Sequence[str], attempts: int) -> list[Partition]:
    """How those topics stand that there are."""
    found: list[Partition] = []
    for name in names:
        for left in range(attempts, 0, -1):
            try:
                found += await library.partitions([name])
            except Failure as error:
                if error.is_known:
                    break  # there is none
                if left == 1:
                    raise
                await asyncio.sleep(1.0)
            else:
                break
    return found


async def _delete_topics(plan: Plan, address: Address, tell: Tell) -> None:
    library = open_library(plan.client, address)
    names: Sequence[str] = [topic.name for one in workloads(plan.workloads) for topic in one.topics(plan.prefix, 1)]
    try:
        there = {one.at.topic for one in await _asked(library, names, 3)}
        if there:
            await library.delete_topics(sorted(there))
    except Failure as error:
        tell(f"topics {plan.prefix}* could not be deleted: {error}")
    finally:
        await library.close()
