"""The driver with a quorum of one: what is promised to whoever proposes, observes and stops. Quorums of several are
simulated (`tests/sim/raft`).
"""

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from structlog.testing import capture_logs

from ottla.core.errors import StorageError
from ottla.core.types import NodeId
from ottla.raft.core import MembershipError
from ottla.raft.quorum import Committed, Entry, RequestId, SessionExpired, Snapshot
from ottla.testing.sim.files import PowerCut, SimFiles
from tests.unit.raft.disk import LoopDisk
from tests.unit.raft.one_voter import MEMBER, one_voter, open_node


class Recorder:
    """The state is the list of what was applied; the result of an application is its length."""

    def __init__(self) -> None:
        self.state: list[bytes] = []
        self.indexes: list[int] = []
        self.leaders: list[tuple[NodeId | None, int]] = []

    def apply(self, entry: Entry) -> bytes:
        self.state.append(entry.data)
        self.indexes.append(entry.index)
        return b"%d" % len(self.state)

    def snapshot(self) -> Callable[[], bytes]:
        state = list(self.state)
        return lambda: b"\n".join(state)

    def restore(self, snapshot: Snapshot) -> None:
        self.state = snapshot.data.split(b"\n") if snapshot.data else []
        self.indexes = [snapshot.index]

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        self.leaders.append((leader, term))


class Observer:
    def __init__(self) -> None:
        self.items: list[Snapshot | Entry] = []

    def observe(self, item: Snapshot | Entry) -> None:
        self.items.append(item)


async def test_a_proposal_is_committed_applied_and_answered_with_the_result_of_its_application() -> None:
    recorder = Recorder()
    node = await one_voter(LoopDisk(), recorder)
    first = await node.propose(b"a")
    assert first.result == b"1"
    assert await node.propose(b"b") == Committed(first.index + 1, b"2")
    assert recorder.state == [b"a", b"b"]
    assert node.commit_index == first.index + 1


async def test_concurrent_proposals_share_one_write_in_the_order_of_proposal() -> None:
    disk = LoopDisk()
    recorder = Recorder()
    node = await one_voter(disk, recorder)
    jobs = disk.jobs
    await asyncio.gather(*(node.propose(b"%d" % n) for n in range(100)))
    assert recorder.state == [b"%d" % n for n in range(100)]
    assert disk.jobs == jobs + 1


async def test_everything_committed_is_replayed_in_a_higher_term_after_a_power_cut() -> None:
    files = SimFiles()
    node = await one_voter(LoopDisk(files), Recorder())
    await node.propose(b"a")
    await node.propose(b"b")
    files.crash(Random(1))
    recorder = Recorder()
    again = await one_voter(LoopDisk(files), recorder)
    assert recorder.state == [b"a", b"b"]
    assert again.term == node.term + 1
    assert recorder.leaders[-1] == (MEMBER.node, again.term)
    assert (await again.propose(b"c")).result == b"3"


async def test_a_start_that_cuts_off_an_unfinished_write_says_so_once() -> None:
    disk = LoopDisk()
    node = await one_voter(disk, Recorder())
    await node.propose(b"a")
    files = disk.files.after_power_cut()
    await node.propose(b"b" * 100)
    [segment] = [f"quorum/{name}" for name in files.list_directory("quorum") if name.endswith(".segment")]
    end = len(files.read_bytes(segment).rstrip(b"\0"))
    torn = disk.files.read_bytes(segment)[end : end + 70].rstrip(b"\0")
    files.open(segment).pwritev([torn], end, sync=True)
    with capture_logs() as logs:
        open_node(LoopDisk(files), Recorder())
        open_node(LoopDisk(files), Recorder())
    assert logs == [
        {
            "event": "the quorum's journal ended in an unfinished write, of which nobody was told; it was cut off",
            "log_level": "warning",
            "directory": "quorum",
            "torn_bytes": len(torn),
        }
    ]


async def test_it_leads_only_once_it_has_applied_what_was_committed_before() -> None:
    files = SimFiles()
    node = await one_voter(LoopDisk(files), Recorder())
    await node.propose(b"a")
    recorder = Recorder()
    seen: list[list[bytes]] = []
    recorder.leadership_changed = (  # type: ignore[method-assign]
        lambda leader, term: seen.append(list(recorder.state)) if leader is not None else None
    )
    await one_voter(LoopDisk(files), recorder)
    assert seen == [[b"a"]]


async def test_nothing_is_applied_before_its_write_is_synced() -> None:
    files = SimFiles()
    recorder = Recorder()
    node = await one_voter(LoopDisk(files), recorder)
    seen: list[list[bytes]] = []
    files.before = lambda operation, path: seen.append(list(recorder.state)) if operation == "sync" else None
    await node.propose(b"a")
    assert seen == [[]]


async def test_a_failed_write_refuses_all_that_waits_and_all_that_comes() -> None:
    disk = LoopDisk()
    recorder = Recorder()
    node = await one_voter(disk, recorder)
    failures: list[Exception] = []
    node.on_failure = failures.append

    def fail(operation: str, path: str) -> None:
        raise OSError(28, "No space left on device")

    disk.files.before = fail
    for outcome in (node.propose(b"a"), node.propose(b"b")):
        with pytest.raises(StorageError, match="No space left on device"):
            await outcome
    disk.files.before = None
    with pytest.raises(StorageError):
        await node.propose(b"c")
    assert (recorder.state, node.is_leader, node.leader, len(failures)) == ([], False, None, 1)
    assert recorder.leaders[-1] == (None, node.term)


async def test_snapshots_keep_the_state_and_let_the_journal_stay_small() -> None:
    files = SimFiles()
    recorder = Recorder()
    node = await one_voter(LoopDisk(files), recorder, snapshot_after_bytes=1000, segment_bytes=4096)
    for n in range(400):
        await node.propose(b"entry %d" % n)
    await node.close()
    size = sum(files.size(f"quorum/{name}") for name in files.list_directory("quorum"))
    assert size < 64 << 10
    replayed = Recorder()
    await one_voter(LoopDisk(files), replayed)
    assert replayed.state == recorder.state == [b"entry %d" % n for n in range(400)]
    assert len(replayed.indexes) < 350  # most came from the snapshot


async def test_an_observer_gets_a_snapshot_when_the_entries_are_gone_then_each_entry() -> None:
    node = await one_voter(LoopDisk(), Recorder(), snapshot_after_bytes=200, kept_entries=2)
    early, late, up_to_date = Observer(), Observer(), Observer()
    node.observe(early, 0)
    indexes = [(await node.propose(b"%d" % n)).index for n in range(20)]
    node.observe(late, 0)
    end = node.observe(up_to_date, node.commit_index)
    indexes.append((await node.propose(b"last")).index)
    end()
    await node.propose(b"unseen")
    assert [item.index for item in early.items] == [*indexes, indexes[-1] + 1]
    assert isinstance(late.items[0], Snapshot)
    assert [item.index for item in late.items[1:]] == list(range(late.items[0].index + 1, indexes[-1] + 2))
    assert [item.index for item in up_to_date.items] == indexes[-1:]


async def test_a_proposal_that_is_sent_again_is_applied_once_and_gets_the_first_result() -> None:
    files = SimFiles()
    recorder = Recorder()
    node = await one_voter(LoopDisk(files), recorder)
    client = await node.open_session()
    observer = Observer()
    node.observe(observer, node.commit_index)
    twice = await asyncio.gather(*(node.propose(b"a", RequestId(client, 1)) for _ in range(2)))
    later = await node.propose(b"a", RequestId(client, 1))
    assert [done.result for done in (*twice, later)] == [b"1"] * 3
    assert recorder.state == [b"a"]
    assert len(observer.items) == 1
    files.crash(Random(3))
    recorder = Recorder()
    again = await one_voter(LoopDisk(files), recorder)
    assert (await again.propose(b"a", RequestId(client, 1))).result == b"1"
    assert recorder.state == [b"a"]


async def test_sessions_survive_snapshots_and_forget_what_is_resolved() -> None:
    files = SimFiles()
    node = await one_voter(LoopDisk(files), Recorder(), snapshot_after_bytes=300)
    client = await node.open_session()
    for n in range(1, 41):
        await node.propose(b"x" * 20, RequestId(client, n, resolved_below=n - 1))
    await node.close()
    recorder = Recorder()
    again = await one_voter(LoopDisk(files), recorder)
    assert (await again.propose(b"x" * 20, RequestId(client, 40, 39))).result == b"40"
    assert len(recorder.state) == 40
    with pytest.raises(SessionExpired, match="long resolved"):
        await again.propose(b"x" * 20, RequestId(client, 3))
    with pytest.raises(SessionExpired, match="session 9999 is not known"):
        await again.propose(b"x", RequestId(9999, 1))
    assert len(recorder.state) == 40


async def test_an_entry_that_cannot_be_applied_stops_nobody_else() -> None:
    recorder = Recorder()
    node = await one_voter(LoopDisk(), recorder)
    apply = recorder.apply

    def picky(entry: Entry) -> bytes:
        if entry.data == b"poison":
            raise ValueError("no such thing")
        return apply(entry)

    recorder.apply = picky  # type: ignore[method-assign]
    outcomes = await asyncio.gather(*(node.propose(data) for data in (b"a", b"poison", b"b")))
    assert [outcome.result for outcome in outcomes] == [b"1", b"", b"2"]


async def test_a_proposer_that_gives_up_harms_nobody() -> None:
    recorder = Recorder()
    node = await one_voter(LoopDisk(), recorder)
    gives_up, waits = asyncio.ensure_future(node.propose(b"a")), asyncio.ensure_future(node.propose(b"b"))
    gives_up.cancel()
    assert (await waits).result == b"2"
    assert recorder.state == [b"a", b"b"]


async def test_a_read_barrier_knows_all_that_was_answered() -> None:
    node = await one_voter(LoopDisk(), Recorder())
    committed = await node.propose(b"a")
    assert await node.read_barrier() == committed.index


async def test_after_close_everything_is_refused() -> None:
    node = await one_voter(LoopDisk(), Recorder())
    await node.propose(b"a")
    await node.close()
    for refused in (node.propose(b"b"), node.read_barrier(), node.until_led()):
        with pytest.raises(StorageError, match="closed"):
            await refused
    await node.close()


async def test_the_only_voter_can_neither_be_removed_nor_hand_over() -> None:
    node = await one_voter(LoopDisk(), Recorder())
    with pytest.raises(MembershipError, match="only voter"):
        await node.remove_member(MEMBER)
    with pytest.raises(MembershipError, match="is not a voter"):
        await node.transfer_leadership(NodeId(7))
    await node.transfer_leadership(MEMBER.node)  # leads already


async def crash_run(seed: int) -> int:
    """One life after another over the same files, each ended by a power cut; returns how many entries survived."""
    random = Random(seed)
    files = SimFiles()
    acknowledged: list[bytes] = []
    proposed: list[bytes] = []
    for life in range(8):
        disk = LoopDisk(files)
        countdown = random.randrange(1, 60)

        def before(operation: str, path: str) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown <= 0:
                raise PowerCut

        files.before = before
        recorder = Recorder()
        try:
            node = open_node(disk, recorder, snapshot_after_bytes=random.choice([300, 1000, 100_000]))
            node.start()
            while not disk.stopped() and not node.is_leader:  # noqa: ASYNC110
                await asyncio.sleep(0)  # the disk runs in turns of this very loop
            state = list(recorder.state)
            if node.is_leader:
                assert acknowledged == state[: len(acknowledged)], (
                    f"seed {seed}, life {life}: an acknowledged entry is lost"
                )
                assert [entry for entry in proposed if entry in set(state)] == state, f"seed {seed}: order or invention"
                acknowledged = state
            while not disk.stopped():
                batch = [b"%d-%d-%s" % (life, len(proposed) + n, b"x" * random.randrange(0, 700)) for n in range(3)]
                proposed += batch
                futures = [asyncio.ensure_future(node.propose(data)) for data in batch]
                while not disk.stopped() and not all(future.done() for future in futures):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                acknowledged += [data for data, future in zip(batch, futures, strict=True) if future.done()]
                for future in futures:
                    future.cancel()
            node._stop(StorageError("the power was cut"))
        except PowerCut:
            pass
        files.before = None
        files.crash(random)
    recorder = Recorder()
    await one_voter(LoopDisk(files), recorder)
    assert acknowledged == recorder.state[: len(acknowledged)], f"seed {seed}: an acknowledged entry is lost"
    return len(recorder.state)


async def test_no_acknowledged_entry_is_lost_in_any_crash() -> None:
    survivors = [await crash_run(seed) for seed in range(200)]
    assert sum(survivors) > 1000  # the runs did something
