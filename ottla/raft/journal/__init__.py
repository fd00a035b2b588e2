"""The journal of one member of the quorum, on the ports `Files` and `File`; read `journal` first."""

from ottla.raft.journal.journal import DEFAULT_SEGMENT_BYTES, Change, Journal, Stored

__all__ = ["DEFAULT_SEGMENT_BYTES", "Change", "Journal", "Stored"]
