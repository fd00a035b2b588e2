"""What the supervisor of a local cluster can be told, and when each command has come true.

    {"command": "status"}                                       ──▶ {"nodes": [...], ...}
    {"command": "addresses"}                                    ──▶ {"grpc": "...", ...}, what clients need, at once
    {"command": "stop|kill|start|pause|resume", "nodes": [2]}   ──▶ {"ok": true}
    {"command": "add", "nodes": [4]}                            ──▶ {"ok": true}, once that node, formatted, is ready
    {"command": "forget", "nodes": [4]}                         ──▶ {"ok": true}: it is none of the cluster's any more
    {"command": "down", "kill": false}                          ──▶ {"ok": true}, and the end of the connection

Each is answered when it is true, or with {"error": ...} when it cannot become so, or did not within its `timeout_s`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ottla.node.data_directory import is_formatted
from ottla.node.local.child import Child, State
from ottla.node.local.control import Reply, named

if TYPE_CHECKING:
    from ottla.node.local.supervisor import Supervisor

STANDING_TIMEOUT_S: Final = 1.0
DEFAULT_TIMEOUT_S: Final = 30.0


class Impossible(Exception):
    """What was asked cannot be done; says why, and what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A command that is not answered yet. `is_true` raises Impossible when it never will be."""

    is_true: Callable[[], bool]
    answer: Callable[[], Mapping[str, object]]
    late: Callable[[], Mapping[str, object]]
    until: float
    reply: Reply


class Commands:
    """One cluster's."""

    def __init__(self, cluster: "Supervisor") -> None:
        self._cluster = cluster
        self._waiting: list[_Waiting] = []
        self._commands: dict[str, Callable[[Sequence[Child]], Callable[[], bool]]] = {
            "stop": self._stop,
            "kill": self._kill,
            "start": self._start,
            "pause": self._pause,
            "resume": self._resume,
        }

    @property
    def due(self) -> float:
        """When `settle` must be called at the latest, on the monotonic clock."""
        return min((one.until for one in self._waiting), default=float("inf"))

    def take(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Begin what is asked for."""
        try:
            self._take(request, reply)
        except (Impossible, TypeError, ValueError) as error:
            reply({"error": str(error)})

    def _take(self, request: Mapping[str, Any], reply: Reply) -> None:
        command, now = request.get("command"), time.monotonic()
        until = now + float(request.get("timeout_s", DEFAULT_TIMEOUT_S))
        if command == "status":
            asked = [child for child in self._cluster.children.values() if child.ask_standing()]
            self._wait(
                lambda: all(child.standing_at >= now or child.state is not State.RUNNING for child in asked),
                self._status,
                self._status,
                min(until, now + STANDING_TIMEOUT_S),
                reply,
            )
        elif command == "addresses":
            reply(self._addresses())
        elif command == "down":
            self._down(until, reply, kill=bool(request.get("kill")))
        elif command == "add":
            child = self._add(_numbers(request.get("nodes")))
            self._wait(
                lambda: _are_ready([child]), lambda: {"ok": True}, lambda: _too_late(command, [child]), until, reply
            )
        elif command == "forget":
            self._forget(_numbers(request.get("nodes")))
            reply({"ok": True})
        elif command in self._commands:
            children = self._named(request.get("nodes"))
            is_true = self._commands[command](children)
            numbers = [child.number for child in children]  # `start` has other processes of them
            self._wait(is_true, lambda: {"ok": True}, lambda: _too_late(command, self._named(numbers)), until, reply)
        else:
            raise Impossible(f"there is no command {command!r}")

    def settle(self) -> None:
        """Answer what has come true, and what is too late."""
        now, still = time.monotonic(), []
        for one in self._waiting:
            try:
                if one.is_true():
                    one.reply(one.answer())
                elif now >= one.until:
                    one.reply(one.late())
                else:
                    still.append(one)
            except Impossible as error:
                one.reply({"error": str(error)})
        self._waiting = still

    def nodes(self) -> list[dict[str, object]]:
        """What is known of each node now."""
        return [_describe(child) for _, child in sorted(self._cluster.children.items())]

    def _wait(
        self,
        is_true: Callable[[], bool],
        answer: Callable[[], Mapping[str, object]],
        late: Callable[[], Mapping[str, object]],
        until: float,
        reply: Reply,
    ) -> None:
        self._waiting.append(_Waiting(is_true=is_true, answer=answer, late=late, until=until, reply=reply))

    def _named(self, nodes: object) -> list[Child]:
        children, numbers = self._cluster.children, _numbers(nodes)
        for number in numbers:
            if number not in children:
                raise Impossible(f"there is no node {number}: this cluster has {', '.join(map(str, sorted(children)))}")
        return [children[number] for number in numbers]

    # -- the commands: begin, and tell what to wait for

    def _stop(self, children: Sequence[Child]) -> Callable[[], bool]:
        for child in children:
            child.stop()
        return lambda: not any(child.alive for child in children)

    def _kill(self, children: Sequence[Child]) -> Callable[[], bool]:
        for child in children:
            child.kill()
        return lambda: not any(child.alive for child in children)

    def _start(self, children: Sequence[Child]) -> Callable[[], bool]:
        for child in children:
            if child.state is State.PAUSED:
                raise Impossible(f"node {child.number} is paused: `ottla node resume {child.number}` lets it go on")
            if child.state is State.STOPPING:
                raise Impossible(f"node {child.number} still stops; `ottla node kill {child.number}` ends it at once")
            if not child.alive:
                self._check_data(child.number)
        begun = [child if child.alive else self._cluster.start(child.number) for child in children]
        return lambda: _are_ready(begun)

    def _add(self, numbers: Sequence[int]) -> Child:
        (number,) = numbers
        child = self._cluster.children.get(number)
        if child is not None and child.alive:
            raise Impossible(f"node {number} is running")
        self._check_data(number)
        return self._cluster.add(number)

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            child = self._cluster.children.get(number)
            if child is not None and child.alive:
                raise Impossible(f"node {number} is running: stop it before it is forgotten")
            self._cluster.forget(number)

    def _check_data(self, number: int) -> None:
        """A node without data would found a cluster of its own; under this one's number that is a lost disk."""
        path = self._cluster.directory_of(number)
        if not is_formatted(path):
            raise Impossible(
                f"node {number} has lost its data: {path} is empty. Restore it, or let the node come back with an "
                f"empty disk: `ottla node replace {number}{named(self._cluster.directory)}`"
            )

    def _pause(self, children: Sequence[Child]) -> Callable[[], bool]:
        _all_alive(children)
        for child in children:
            child.pause()
        return lambda: _all_alive(children) and all(child.is_paused for child in children)

    def _resume(self, children: Sequence[Child]) -> Callable[[], bool]:
        _all_alive(children)
        for child in children:
            child.resume()
        return lambda: _all_alive(children) and not any(child.is_paused for child in children)

    def _down(self, until: float, reply: Reply, *, kill: bool) -> None:
        cluster = self._cluster
        if kill:
            for child in cluster.children.values():
                child.kill()
        cluster.stop_all()
        everyone = list(cluster.children.values())
        self._wait(
            lambda: not any(child.alive for child in everyone),
            lambda: {"ok": True},
            lambda: {"error": "the cluster still stops; `ottla down --kill` ends it at once"},
            until,
            reply,
        )

    def _status(self) -> Mapping[str, object]:
        cluster = self._cluster
        return {
            "dir": str(cluster.directory),
            "uptime_s": round(time.monotonic() - cluster.started_at, 1),
            "members": cluster.members,
            **self._addresses(),
            "nodes": self.nodes(),
        }

    def _addresses(self) -> Mapping[str, object]:
        ready = [child.ready for _, child in sorted(self._cluster.children.items()) if child.ready is not None]
        return {
            "tls_ca": self._cluster.tls_ca,
            "bootstrap": ",".join(node.kafka for node in ready),
            "grpc": ",".join(node.grpc for node in ready),
        }


def _numbers(nodes: object) -> list[int]:
    if not isinstance(nodes, list) or not nodes or not all(isinstance(number, int) for number in nodes):
        raise Impossible("name the nodes")
    return nodes


def _are_ready(children: Sequence[Child]) -> bool:
    for child in children:
        if not child.alive:
            raise Impossible(f"node {child.number} ended while it started: {child.error or child.end}")
    return all(child.ready is not None for child in children)


def _all_alive(children: Sequence[Child]) -> bool:
    for child in children:
        if not child.alive:
            raise Impossible(
                f"node {child.number} does not run ({child.state}): `ottla node start {child.number}` starts it"
            )
    return True


def _too_late(command: str, children: Sequence[Child]) -> Mapping[str, object]:
    states = ", ".join(f"node {child.number} is {child.state}" for child in children)
    return {"error": f"{command} has not come true in time: {states}"}


def _describe(child: Child) -> dict[str, object]:
    """Addresses are those it had last; how it stands, only while it can tell."""
    ready = child.ready
    where = asdict(ready) if ready is not None else {"kafka": "", "grpc": "", "http": "", "dir": ""}
    running = child.state is State.RUNNING
    return {
        **where,
        "id": child.number,
        "state": str(child.state),
        "pid": child.pid if child.alive else None,
        "uptime_s": round(time.monotonic() - child.started_at, 1) if child.alive else None,
        "end": None if child.alive else child.end,
        "standing": child.standing if running else None,
        "standing_at": child.standing_at if running else None,
    }
