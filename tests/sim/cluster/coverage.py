"""Which rare events a run of the whole cluster met."""

from typing import Final

from tests.sim.raft.coverage import Coverage

RARE: Final = {
    "acknowledged": "a batch with acks=all",
    "retry after an unknown outcome": "a batch was sent again without knowing what became of it",
    "duplicate found": "a retried batch was in the log already",
    "read from a follower": "a consumer got records of a replica that does not lead",
    "leader elected": "a partition got another leader",
    "active controller changed": "another node decides",
    "broker fenced": "and later unfenced",
    "ISR shrunk": "a replica left it",
    "ISR grown": "a replica came back",
    "ELR used": "an eligible leader replica was remembered",
    "log cut": "a follower removed what its leader does not have",
    "snapshot installed": "of the metadata",
    "image restored": "a node began with a snapshot of the metadata",
    "topic created": "under load",
    "topic deleted": "under load",
    "name used again": "a topic was created whose namesake's files were perhaps still there",
    "replica moved": "a reassignment began",
    "reassignment completed": "and ended",
    "clean stop": "a node handed over and stopped",
    "handed over in time": "what it led was led by others before it stopped",
    "broker replaced": "a node came back with an empty disk, under a new directory id",
    "disk stalled": "long enough to resign",
    "stalled while it joined": "a replica got no further than it was when its leader asked for it to be in sync",
    "broker resigned": "its leaderships went while it lived",
    "EIO": "a write or sync failed",
    "ENOSPC": "the disk was full",
    "replica damaged": "its files had decayed when its node started, and others had everything",
    "power cut": "of one machine",
    "power cut everywhere": "all at once",
    "process killed": "what it wrote stayed in the page cache",
    "process paused": "and went on later",
    "partition": "links were cut",
    "clock jumped": "a wall clock was set",
    "transaction committed": "records in several partitions, and the offsets that they were made of",
    "transaction aborted": "as its worker wanted it",
    "transaction given up": "it could only be aborted",
    "producer fenced": "a successor, or the coordinator, had its epoch raised",
    "producer killed": "in the middle of whatever it did",
    "producer hung": "and went on when it had a successor: a zombie",
    "request late": "it arrived seconds after it was sent, perhaps repeated before",
    "generation joined": "a member of a group got its partitions",
    "struck at begin": "a coordinator went away when a producer was about to begin",
    "struck at produce": "... to write",
    "struck at offsets": "... to commit offsets",
    "struck at end": "... to end its transaction",
    "struck at ended": "... to go on, while the markers were on their way",
    "registered again": "a running process lost its registration and got another",
}
"""Name and meaning."""


class ClusterCoverage(Coverage):
    """Counts what the quorum's invariants note, too."""

    rare = RARE

    def note(self, name: str, times: int = 1) -> None:
        self[name] += times

    def missing(self) -> list[str]:
        return [name for name in RARE if not self[name]]
