"""Which rare events a run met. A simulator that never sees a thing does not test it, however many seeds it runs."""

from collections import Counter
from typing import Final

RARE: Final = {
    "leader change under load": "a leader was followed by another while proposals of its own waited",
    "log truncated": "a conflict of terms removed entries",
    "snapshot installed": "a follower took a leader's snapshot",
    "snapshot chunk lost": "a chunk was sent again after a loss",
    "torn tail cut": "a start found an unfinished write at the journal's end",
    "unsynced lost": "a power cut took what was not synced",
    "power cut inside a job": "between two operations on files",
    "new file or rename lost": "a power cut took a name that was not synced",
    "membership change during a partition": "one was appended while links were cut",
    "learner promoted": "a new member became a voter",
    "member removed": "a removal was committed",
    "leader removed itself": "and stepped down",
    "disk replaced": "a node came back empty, under a new directory id, and became a voter",
    "leadership transferred": "a candidate was asked for by the leader, and elected",
    "proposal lost": "leadership ended before it was committed",
    "retry de-duplicated": "a proposal was in the log twice and was applied once",
    "result kept across a snapshot": "a retry got the result that only a restored snapshot held",
    "session expired": "a proposal below what its client resolved was refused",
    "overloaded": "a leader took no more proposals",
    "quorum check failed": "a cut-off leader stepped down",
    "pre-vote refused": "somebody would have disturbed a living leader, or lacked entries",
    "vote refused": "a candidate was too late or lacked entries",
    "read waited across a leader change": "a barrier ended with NotLeader and its client asked another node",
    "reads confirmed": "barriers that a majority answered",
    "older term committed indirectly": "entries of an earlier term were committed by one of the leader's own",
    "EIO": "a write or sync failed",
    "ENOSPC": "the disk was full",
    "sync stalled": "a journal's job took long",
    "bit flip refused": "a node did not start on damaged files",
    "wire codec used": "messages travelled as bytes",
    "message lost": "by chance or by a partition",
    "connection reset": "with what was on its way",
    "connection refused": "by a machine on which nothing listened",
    "clock jumped": "a wall clock was set",
    "process killed": "what it wrote stayed in the page cache",
    "partition": "links were cut",
    "leader cut off after a commit": "it had counted one of which no follower knew",
    "leader cut off but for a learner": "when it had just added that one",
    "new leader asked at once": "a read reached it before an entry of its term was applied",
    "deposed leader asked": "a read reached a leader that another one had followed",
    "one-way cut": "a node heard but was not heard, or the other way round",
    "single voter": "a quorum of one",
    "snapshot saved": "a node compacted its journal",
}
"""Name and meaning. A run of many seeds in which one of them never happened does not count."""


class Coverage(Counter[str]):
    """Counts by name; only names of `RARE` may be counted."""

    def note(self, name: str, times: int = 1) -> None:
        if name not in RARE:
            raise KeyError(name)
        self[name] += times

    def missing(self) -> list[str]:
        """What never happened."""
        return [name for name in RARE if not self[name]]
