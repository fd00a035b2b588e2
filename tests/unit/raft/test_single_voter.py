import asyncio
from collections.abc import Callable
from random import Random

import pytest

from ottla.core.errors import CorruptLog, StorageError
from ottla.core.types import NodeId
from ottla.raft.quorum import Committed, Entry, Snapshot
from ottla.raft.single_voter import JOURNAL_FILE, NEW_FILE, SingleVoterLog
from ottla.raft.single_voter_journal import decode, encode_entries, encode_start
from ottla.testing.sim.files import PowerCut, SimFiles
from tests.unit.raft.disk import LoopDisk

NODE = NodeId(1)


class Recorder:
    """The state is the list of what was applied."""

    def __init__(self) -> None:
        self.state: list[bytes] = []
        self.indexes: list[int] = []
        self.leaders: list[tuple[NodeId | None, int]] = []

    def apply(self, entry: Entry) -> object:
        self.state.append(entry.data)
        self.indexes.append(entry.index)
        return len(self.state)

    def snapshot(self) -> Callable[[], bytes]:
        state = list(self.state)
        return lambda: b"\n".join(state)

    def restore(self, snapshot: Snapshot) -> None:
        self.state = snapshot.data.split(b"\n") if snapshot.data else []
        self.indexes = [snapshot.index]

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        self.leaders.append((leader, term))


def open_log(disk: LoopDisk, **options: int) -> tuple[SingleVoterLog, Recorder]:
    recorder = Recorder()
    return SingleVoterLog.open(disk, "quorum", NODE, recorder, **options), recorder


def journal(files: SimFiles) -> bytes:
    return files.read_bytes(f"quorum/{JOURNAL_FILE}")


async def test_a_proposal_is_committed_applied_and_answered_with_the_result_of_its_application() -> None:
    log, recorder = open_log(LoopDisk())
    assert await log.propose(b"a") == Committed(1, 1)
    assert await log.propose(b"b") == Committed(2, 2)
    assert (recorder.state, recorder.indexes, log.commit_index) == ([b"a", b"b"], [1, 2], 2)


async def test_concurrent_proposals_share_one_write_in_the_order_of_proposal() -> None:
    disk = LoopDisk()
    log, recorder = open_log(disk)
    results = await asyncio.gather(*(log.propose(b"%d" % n) for n in range(100)))
    assert [committed.index for committed in results] == list(range(1, 101))
    assert recorder.state == [b"%d" % n for n in range(100)]
    assert disk.jobs == 2  # the first alone, as nobody could know of the others


async def test_everything_committed_is_replayed_in_a_higher_term_after_a_power_cut() -> None:
    files = SimFiles()
    log, _ = open_log(LoopDisk(files))
    await log.propose(b"a")
    await log.propose(b"b")
    files.crash(Random(1))
    again, recorder = open_log(LoopDisk(files))
    assert recorder.state == [b"a", b"b"]
    assert again.term == log.term + 1
    assert recorder.leaders == [(NODE, again.term)]
    assert await again.propose(b"c") == Committed(3, 3)


async def test_the_term_rises_at_every_start_even_when_nothing_is_proposed() -> None:
    files = SimFiles()
    terms = []
    for seed in range(3):
        log, _ = open_log(LoopDisk(files))
        terms.append(log.term)
        files.crash(Random(seed))
    assert terms == [1, 2, 3]


async def test_nothing_is_applied_before_its_write_is_synced() -> None:
    files = SimFiles()
    log, recorder = open_log(LoopDisk(files))
    seen: list[list[bytes]] = []
    files.before = lambda operation, path: seen.append(list(recorder.state)) if operation == "sync" else None
    await log.propose(b"a")
    assert seen == [[]]


async def test_a_torn_tail_is_cut_off() -> None:
    files = SimFiles()
    log, _ = open_log(LoopDisk(files))
    await log.propose(b"a")
    frame = encode_entries(log.term, 2, [b"lost"], len(journal(files)))
    files.open("quorum/journal").pwritev([frame[:-1]], len(journal(files)))
    again, recorder = open_log(LoopDisk(files))
    assert recorder.state == [b"a"]
    assert await again.propose(b"b") == Committed(2, 2)
    assert open_log(LoopDisk(files))[1].state == [b"a", b"b"]


@pytest.mark.parametrize("where", [0, 30, 130])
async def test_damage_before_valid_entries_is_refused_with_file_position_and_advice(where: int) -> None:
    files = SimFiles()
    log, _ = open_log(LoopDisk(files))
    await log.propose(b"first" * 20)
    await log.propose(b"second")
    damaged = bytearray(journal(files))
    damaged[where] ^= 1
    files.open("quorum/journal").pwritev([bytes(damaged)], 0)
    with pytest.raises(CorruptLog, match=r"quorum/journal is damaged at byte \d+: .*restore the file") as caught:
        open_log(LoopDisk(files))
    assert caught.value.position <= where
    assert journal(files) == bytes(damaged)


async def test_a_failed_write_refuses_all_that_waits_and_all_that_comes() -> None:
    disk = LoopDisk()
    log, recorder = open_log(disk)
    failures: list[Exception] = []
    log.on_failure = failures.append

    def fail(operation: str, path: str) -> None:
        raise OSError(28, "No space left on device")

    disk.files.before = fail
    first, second = log.propose(b"a"), log.propose(b"b")
    for outcome in (first, second):
        with pytest.raises(StorageError, match="No space left on device"):
            await outcome
    disk.files.before = None
    with pytest.raises(StorageError):
        await log.propose(b"c")
    assert (recorder.state, log.is_leader, log.leader, len(failures)) == ([], False, None, 1)
    assert recorder.leaders[-1] == (None, log.term)


async def test_compaction_keeps_the_state_and_what_observers_need() -> None:
    files = SimFiles()
    log, recorder = open_log(LoopDisk(files), compact_after_bytes=1000)
    for n in range(40):
        await log.propose(b"entry %d" % n)
    await log.close()
    content = decode(journal(files), "journal")
    assert content.snapshot is not None
    assert content.snapshot.index + len(content.entries) == 40
    assert not files.exists(f"quorum/{NEW_FILE}")
    again, replayed = open_log(LoopDisk(files))
    assert replayed.state == recorder.state == [b"entry %d" % n for n in range(40)]
    assert again.term == log.term + 1


async def test_an_observer_gets_a_snapshot_when_the_entries_are_gone_then_each_entry() -> None:
    log, _ = open_log(LoopDisk(), compact_after_bytes=200)

    class Observer:
        def __init__(self) -> None:
            self.items: list[Snapshot | Entry] = []

        def observe(self, item: Snapshot | Entry) -> None:
            self.items.append(item)

    early, late, up_to_date = Observer(), Observer(), Observer()
    log.observe(early, 0)
    for n in range(20):
        await log.propose(b"%d" % n)
    log.observe(late, 0)
    end = log.observe(up_to_date, log.commit_index)
    await log.propose(b"last")
    end()
    await log.propose(b"unseen")
    assert [item.index for item in early.items] == list(range(1, 23))
    assert isinstance(late.items[0], Snapshot)
    assert [item.index for item in late.items[1:]] == list(range(late.items[0].index + 1, 23))
    assert [item.index for item in up_to_date.items] == [21]


async def test_close_finishes_what_is_proposed_and_refuses_the_rest() -> None:
    log, recorder = open_log(LoopDisk())
    proposals = [log.propose(b"a"), log.propose(b"b")]
    await log.close()
    assert [(await proposal).index for proposal in proposals] == [1, 2]
    assert recorder.state == [b"a", b"b"]
    with pytest.raises(StorageError, match="closed"):
        await log.propose(b"c")


async def test_a_read_barrier_knows_all_that_was_answered() -> None:
    log, _ = open_log(LoopDisk())
    await log.propose(b"a")
    assert await log.read_barrier() == 1


def test_a_newer_format_is_refused() -> None:
    data = bytearray(encode_start(None))
    from crc32c import crc32c

    body_at = len(data) - 26
    data[body_at : body_at + 2] = (9).to_bytes(2, "big")
    data[0:4] = crc32c(bytes(data[4:])).to_bytes(4, "big")
    with pytest.raises(StorageError, match="newer version"):
        decode(bytes(data), "journal")


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
        try:
            log, recorder = open_log(disk, compact_after_bytes=random.choice([300, 1000, 100_000]))
            state = list(recorder.state)
            assert acknowledged == state[: len(acknowledged)], (
                f"seed {seed}, life {life}: an acknowledged entry is lost"
            )
            assert [entry for entry in proposed if entry in set(state)] == state, f"seed {seed}: order or invention"
            acknowledged = state
            while not disk.stopped():
                batch = [b"%d-%d-%s" % (life, len(proposed) + n, b"x" * random.randrange(0, 700)) for n in range(3)]
                proposed += batch
                futures = [asyncio.ensure_future(log.propose(data)) for data in batch]
                while not disk.stopped() and not all(future.done() for future in futures):  # noqa: ASYNC110
                    await asyncio.sleep(0)  # the disk runs in turns of this very loop
                acknowledged += [data for data, future in zip(batch, futures, strict=True) if future.done()]
                for future in futures:
                    future.cancel()
        except PowerCut:
            pass
        files.before = None
        files.crash(random)
    _, recorder = open_log(LoopDisk(files))
    assert acknowledged == recorder.state[: len(acknowledged)], f"seed {seed}: an acknowledged entry is lost"
    return len(recorder.state)


async def test_no_acknowledged_entry_is_lost_in_any_crash() -> None:
    survivors = [await crash_run(seed) for seed in range(300)]
    assert sum(survivors) > 1000  # the runs did something


async def test_an_entry_that_cannot_be_applied_fails_its_proposer_and_nobody_else() -> None:
    log, recorder = open_log(LoopDisk())
    apply = recorder.apply

    def picky(entry: Entry) -> object:
        if entry.data == b"poison":
            raise ValueError("no such thing")
        return apply(entry)

    recorder.apply = picky  # type: ignore[method-assign]
    outcomes = await asyncio.gather(*(log.propose(data) for data in (b"a", b"poison", b"b")), return_exceptions=True)
    assert outcomes[0] == Committed(1, 1)
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == Committed(3, 2)


async def test_a_proposer_that_gives_up_harms_nobody() -> None:
    log, recorder = open_log(LoopDisk())
    gives_up, waits = asyncio.ensure_future(log.propose(b"a")), asyncio.ensure_future(log.propose(b"b"))
    gives_up.cancel()
    assert (await waits).index == 2
    assert recorder.state == [b"a", b"b"]
