"""A history as a file, one operation a line, so that a verdict can be looked into later."""

import json
from collections.abc import Iterable
from dataclasses import fields
from math import inf
from pathlib import Path
from typing import Any

from ottla.testing.sim.register import Action, Append, CompareAndSet, Operation, Outcome, Read, Write

_ACTIONS: dict[str, type[Action]] = {action.__name__: action for action in (Read, Write, Append, CompareAndSet)}


def save(path: Path, operations: Iterable[Operation]) -> None:
    with path.open("w") as file:
        for operation in operations:
            action = operation.action
            said = {field.name: _text(getattr(action, field.name)) for field in fields(action)}
            line = {
                "client": operation.client,
                "key": operation.key,
                "action": type(action).__name__,
                **said,
                "invoked": operation.invoked,
                "completed": None if operation.completed == inf else operation.completed,
                "outcome": operation.outcome.value,
            }
            file.write(json.dumps(line) + "\n")


def load(path: Path) -> list[Operation]:
    """What `save` wrote."""
    found = []
    for line in path.read_text().splitlines():
        said = json.loads(line)
        action = _ACTIONS[said["action"]]
        answered = action(**{field.name: _bytes(said[field.name]) for field in fields(action)})
        completed = inf if said["completed"] is None else said["completed"]
        found.append(
            Operation(
                client=said["client"],
                key=said["key"],
                action=answered,
                invoked=said["invoked"],
                completed=completed,
                outcome=Outcome(said["outcome"]),
            )
        )
    return found


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
