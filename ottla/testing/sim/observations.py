"""What the answers of one register tell about its values, and so which of its states need to be told apart."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from ottla.testing.sim.register import Action, Append, CompareAndSet, Operation, Read, Value, Write

State: TypeAlias = Value | int
"""A value; or, for one that nobody saw whole, its length (-1 where that does not matter either)."""

FORBIDDEN = -2


class Observations:
    """What the answers tell about values."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        seen: set[bytes] = set()
        self.max_length = -1
        for operation in operations:
            match operation.action:
                case Read(bytes(value)) | CompareAndSet(bytes(value)):
                    seen.add(value)
                case Append(_, int(length)):
                    self.max_length = max(self.max_length, length)
        self._seen = sorted(seen)
        self._longest = [v for v, after in pairwise([*self._seen, b""]) if not after.startswith(v)]

    def state(self, value: Value) -> State:
        if value is None:
            return None
        at = bisect_left(self._seen, value)
        if at < len(self._seen) and self._seen[at].startswith(value):
            return value
        return self.unseen(len(value))

    def unseen(self, length: int) -> State:
        return length if length <= self.max_length else -1

    def interchangeable(self, operation: Operation) -> Action | tuple[str, int]:
        """One name for all unknown operations that do the same as far as anybody could see."""
        match operation.action:
            case Append(suffix) if suffix and not any(suffix in value for value in self._longest):
                return "append", len(suffix)
            case Write(bytes(value)) if isinstance(state := self.state(value), int):
                return "write", state
        return operation.action

    def after(self, operation: Operation, state: State) -> State:
        """What the operation makes of `state`; FORBIDDEN where its answer does not fit."""
        match operation.action:
            case Read(value):
                return state if state == value else FORBIDDEN
            case Write(value, existed):
                return self.state(value) if existed is None or existed == (state is not None) else FORBIDDEN
            case Append(suffix, length):
                return self._append(suffix, length, state)
            case CompareAndSet(expected, value, swapped):
                equal = state == expected
                if swapped is not None and swapped != equal:
                    return FORBIDDEN
                return self.state(value) if equal else state

    def _append(self, suffix: bytes, length: int | None, state: State) -> State:
        if isinstance(state, int):
            if length is not None and state + len(suffix) != length:
                return FORBIDDEN
            if state < 0:
                return FORBIDDEN if length is not None else -1
            return self.unseen(state + len(suffix))
        value = (state or b"") + suffix
        return self.state(value) if length is None or len(value) == length else FORBIDDEN


def changes_nothing(action: Action) -> bool:
    """Whenever its answer fits."""
    match action:
        case Read() | Write(None, False) | CompareAndSet(_, _, False):
            return True
    return False


def seen(action: Action) -> tuple[Value, ...]:
    """The value that was there, if the answer tells it. Of unknown outcome: nothing."""
    match action:
        case Read(value) | CompareAndSet(value, _, True):
            return (value,)
    return ()


class Outlook:
    """Whether what was read can still come to be, by the operations that are left."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._appends: defaultdict[bytes, list[int]] = defaultdict(list)
        self._writes: defaultdict[Value, list[int]] = defaultdict(list)
        for i, operation in enumerate(operations):
            match operation.action:
                case Append(suffix):
                    self._appends[suffix].append(i)
                case Write(value) | CompareAndSet(_, value, None | True):
                    self._writes[value].append(i)
        self._append_lengths = sorted({len(suffix) for suffix in self._appends})
        self._write_lengths = sorted({len(value) for value in self._writes if value is not None})

    def can_become(self, state: State, target: Value, taken: bytearray) -> bool:
        """False: surely not. Times are not looked at."""
        if state == target or target is None:
            return state == target or self._is_left(self._writes, None, taken)
        if isinstance(state, bytes) and target.startswith(state) and self._is_appended(target, len(state), taken):
            return True
        if any(self._is_left(self._writes, target[:n], taken) for n in self._write_lengths):
            return True
        may_be_absent = state is None or self._is_left(self._writes, None, taken)
        return may_be_absent and self._is_appended(target, 0, taken)

    def _is_appended(self, target: bytes, at: int, taken: bytearray) -> bool:
        return any(self._is_left(self._appends, target[at : at + n], taken) for n in self._append_lengths)

    @staticmethod
    def _is_left(by_value: "dict[bytes, list[int]] | dict[Value, list[int]]", value: Value, taken: bytearray) -> bool:
        return any(not taken[i] for i in by_value.get(value, ()))  # type: ignore[arg-type]
