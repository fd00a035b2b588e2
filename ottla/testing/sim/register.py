"""A register as its clients see it: what they asked of one key, when, and what they were told.

`History` collects operations while a simulation runs; `linearizability` judges them. Times may be any numbers that
grow, as long as one operation that ended before another began has the smaller ones.
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import TypeAlias

Value: TypeAlias = bytes | None
"""None: the key is absent."""


@dataclass(frozen=True, slots=True)
class Read:
    """Answered with `value`."""

    value: Value = None


@dataclass(frozen=True, slots=True)
class Write:
    """Sets the value, whatever it was; None deletes."""

    value: Value
    existed: bool | None = None
    """Whether there was a value before, where the answer told it."""


@dataclass(frozen=True, slots=True)
class Append:
    """Puts `suffix` behind the value (behind nothing when there is none)."""

    suffix: bytes
    length: int | None = None
    """Of the value afterwards, where the answer told it."""


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """Sets the value if it is `expected`."""

    expected: Value
    value: Value
    swapped: bool | None = None
    """Whether it was, where the answer told it."""


Action: TypeAlias = Read | Write | Append | CompareAndSet


class Outcome(Enum):
    """What the client knows of its operation."""

    OK = "ok"
    FAILED = "failed"  # it never took effect and never will
    UNKNOWN = "unknown"  # it takes effect at any time after its invocation, or never


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of one client."""

    client: str
    key: str
    action: Action
    invoked: float
    completed: float = inf
    outcome: Outcome = Outcome.UNKNOWN

    def __post_init__(self) -> None:
        if not self.invoked <= self.completed:
            raise ValueError(f"an operation that ends at {self.completed}, before it began at {self.invoked}")

    def __str__(self) -> str:
        end = f"{self.completed:g}" if self.outcome is Outcome.OK else self.outcome.value
        return f"[{self.invoked:g} … {end}] {self.client}: {describe(self.action)}"

    @property
    def weakened(self) -> "Operation":
        """The same, as if its answer had been lost."""
        return replace(self, completed=inf, outcome=Outcome.UNKNOWN, action=without_answer(self.action))


def without_answer(action: Action) -> Action:
    match action:
        case Write(value):
            return Write(value)
        case Append(suffix):
            return Append(suffix)
        case CompareAndSet(expected, value):
            return CompareAndSet(expected, value)
    return action


def describe(action: Action) -> str:
    """An operation and its answer, in a few words."""
    match action:
        case Read(value):
            return f"read {_short(value)}"
        case Write(None, existed):
            return "delete" + ("" if existed is None else " a value" if existed else " nothing")
        case Write(value):
            return f"set {_short(value)}"
        case Append(suffix, length):
            return f"append {_short(suffix)}" + (f", now {length} bytes" if length is not None else "")
        case CompareAndSet(expected, value, swapped):
            answer = "" if swapped is None else ": done" if swapped else ": differs"
            return f"set {_short(value)} if {_short(expected)}{answer}"


def _short(value: Value) -> str:
    if value is None:
        return "nothing"
    return repr(value)[1:] if len(value) <= 60 else f"{value[:20]!r} … {value[-30:]!r} ({len(value)} bytes)"


class History:
    """Collects operations. What has not ended is of unknown outcome."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    def __len__(self) -> int:
        return len(self._operations)

    def invoke(self, client: str, key: str, action: Action, now: float) -> int:
        """The client has begun; the number that is returned names the operation when it ends."""
        self._operations.append(Operation(client=client, key=key, action=without_answer(action), invoked=now))
        return len(self._operations) - 1

    def complete(self, number: int, now: float, answered: Action) -> None:
        """It took effect before `now`; `answered` is the action with its answer."""
        self._operations[number] = replace(self._operations[number], action=answered, completed=now, outcome=Outcome.OK)

    def fail(self, number: int, now: float) -> None:
        """It surely did not take effect and never will."""
        self._operations[number] = replace(self._operations[number], completed=now, outcome=Outcome.FAILED)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(self._operations)
