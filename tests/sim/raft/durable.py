"""The promise that what a node states is on its stable storage when it states it.

What a power cut would leave at this moment is read by the production journal from a copy of the durable bytes.
"""

from random import Random
from typing import TYPE_CHECKING

from ottla.core.errors import StorageError
from ottla.raft.core import HardState, Member
from ottla.raft.core.messages import AppendResponse, Message, VoteRequest, VoteResponse
from ottla.raft.journal import Journal, Stored
from tests.sim.raft.host import DIRECTORY, Host
from tests.sim.raft.violation import Violation

if TYPE_CHECKING:
    from ottla.testing.sim.files import SimFiles


class Durable:
    """Reads journals, at most once between two syncs, and compares them with what is said."""

    def __init__(self, random: Random, votes: dict[tuple[Member, int], Member], *, entries: int = 6000) -> None:
        self._random, self._votes = random, votes
        self._entries = entries  # that may still be read; a run must not spend all its time on this
        self._cache: dict[int, tuple[SimFiles, int, Stored]] = {}  # by node
        self._states: dict[Member, HardState] = {}

    def is_due(self) -> bool:
        """Whether one of the many statements of its kind is looked into."""
        return self._entries > 0 and self._random.random() < 0.3

    def stored(self, host: Host) -> Stored:
        """What a power cut would leave."""
        files = host.files
        cached = self._cache.get(host.node)
        if cached is not None and cached[0] is files and cached[1] == files.syncs:
            return cached[2]
        copy = files.after_power_cut()
        try:
            journal, stored = Journal.open(
                copy, DIRECTORY, member=host.member, bootstrap=host.bootstrap,
                segment_bytes=host.setting.options.settings["segment_bytes"],
            )  # fmt: skip
        except StorageError as error:
            raise Violation("readable after a power cut", f"{host.member}: {error}") from error
        journal.close()
        self._entries -= 20 + len(stored.entries)
        self._cache[host.node] = (files, files.syncs, stored)
        self.hard_state(host.member, stored.hard_state)
        return stored

    def hard_state(self, member: Member, state: HardState) -> None:
        """As read from a disk: it never goes back."""
        known = self._states.get(member)
        if known is not None and (
            state.term < known.term or (state.term == known.term and known.vote not in (None, state.vote))
        ):
            raise Violation("hard state grows", f"{member} had {known} on its disk, and now {state}")
        self._states[member] = state

    def forget(self, member: Member) -> None:
        self._states.pop(member, None)

    def sent(self, host: Host, message: Message) -> None:
        """A message leaves; what it states must be durable."""
        match message:
            case VoteResponse(granted=True, pre=False):
                self._voted(host, message.term, message.target)
            case VoteRequest(pre=False):
                self._voted(host, message.term, message.source)
            case AppendResponse(matched=True):
                if self.is_due():
                    self._holds(host, message)

    def _voted(self, host: Host, term: int, candidate: Member) -> None:
        known = self._votes.setdefault((host.member, term), candidate)
        if known != candidate:
            raise Violation("one vote a term", f"{host.member} voted for {known} and for {candidate} in term {term}")
        state = self.stored(host).hard_state
        if state.term < term or (state.term == term and state.vote != candidate):
            raise Violation(
                "vote is durable", f"{host.member} votes for {candidate} in term {term}, its disk says {state}"
            )

    def _holds(self, host: Host, response: AppendResponse) -> None:
        stored = self.stored(host)
        end = stored.entries[-1].index if stored.entries else stored.snapshot.index
        if stored.hard_state.term < response.term or (stored.hard_state.term == response.term and end < response.index):
            raise Violation(
                "acknowledgement is durable",
                f"{host.member} tells term {response.term} that it holds {response.index}; its disk ends at {end}, "
                f"term {stored.hard_state.term}",
            )

    def holds(self, host: Host, index: int, term: int) -> bool:
        """Whether this entry is on the platter."""
        stored = self.stored(host)
        if index <= stored.snapshot.index:
            return True
        entries = stored.entries
        at = index - entries[0].index if entries else -1
        return 0 <= at < len(entries) and entries[at].term == term
