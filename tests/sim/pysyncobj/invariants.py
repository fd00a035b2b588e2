"""What must hold whatever happens, checked while it happens. Runs go on after the first breach, to name the others."""

from ottla.testing.sim.linearizability import Undecided, check
from ottla.testing.sim.register import History

TWO_LEADERS = "two leaders in one term"
DIVERGED = "members applied different commands at one place"
LOST = "an acknowledged command is lost"
TWICE = "a command was applied twice"
COMMIT_WENT_BACK = "the commit index went back"
APPLIED_WENT_BACK = "applied commands were taken back"
NOT_LINEARIZABLE = "the clients' history is not linearizable"
NO_RECOVERY = "no leader, or no common state, 20 s after all faults"


class Invariants:
    """Watches all members and all clients of one run."""

    def __init__(self) -> None:
        self.history = History()
        self.acknowledged: list[bytes] = []
        self.broken: dict[str, str] = {}
        """What broke, in that order, and what was seen the first time."""
        self._leaders: dict[int, str] = {}
        self._applied: list[bytes] = []  # by any member, in the log's order
        self._marks: dict[str, tuple[int, int]] = {}  # commit index and number of applied commands, in this life

    def started(self, member: str) -> None:
        self._marks[member] = (0, 0)

    def watch(self, member: str, *, leads: bool, term: int, commit: int, applied: int) -> None:
        """A member's state after something happened to it."""
        if leads and (other := self._leaders.setdefault(term, member)) != member:
            self._breach(TWO_LEADERS, f"{other} and {member} lead term {term}")
        commit_before, applied_before = self._marks[member]
        if commit < commit_before:
            self._breach(COMMIT_WENT_BACK, f"from {commit_before} to {commit} on {member}")
        if applied < applied_before:
            self._breach(APPLIED_WENT_BACK, f"{member} had applied {applied_before} commands, now {applied}")
        self._marks[member] = (commit, applied)

    def applied(self, member: str, position: int, command: bytes) -> None:
        """The `position`th command that this member's state consists of, from 0."""
        if position < len(self._applied):
            known = self._applied[position]
            if known != command:
                details = f"command {position} is {command!r} on {member}, and {known!r} where it was applied first"
                self._breach(DIVERGED, details)
        elif command in self._applied:
            self._breach(TWICE, f"{member} applied {command!r} again, as command {position}")
        else:
            self._applied.append(command)

    def restored(self, member: str, commands: list[bytes]) -> None:
        """A member took over a state."""
        for position, command in enumerate(commands):
            self.applied(member, position, command)

    def finished(self, states: dict[str, list[bytes]], leader: str | None) -> None:
        """Long after all faults: what each member has applied. `leader` has just committed a command."""
        if leader is None:
            self._breach(NO_RECOVERY, "nobody commits a command")
        else:
            present = set(states[leader])
            lost = [command for command in self.acknowledged if command not in present]
            if lost:
                self._breach(LOST, f"{len(lost)} of them, {lost[0]!r} first, on {leader}, which leads")
            if any(state != states[leader] for state in states.values()):
                self._breach(NO_RECOVERY, f"applied: { {member: len(state) for member, state in states.items()} }")
        try:
            violation = check(self.history.operations, max_steps=100_000)
        except Undecided:
            return  # nothing is said without a proof
        if violation is not None:
            self._breach(NOT_LINEARIZABLE, str(violation))

    def _breach(self, invariant: str, details: str) -> None:
        self.broken.setdefault(invariant, details)
