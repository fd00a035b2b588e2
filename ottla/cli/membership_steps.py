"""The steps of which nodes come to a cluster and go, each asked of the cluster through the gRPC door.

Every step may be repeated: a command that was interrupted is run again and finds what is done already.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from ottla.core.errors import ConfigError, ErrorCode, OttlaError

if TYPE_CHECKING:
    from ottla.client import Admin
    from ottla.client.operations import Reassignment
    from ottla.client.types import Node, PartitionDescription, TopicDescription, TopicPartition

LOOK_S: Final = 0.2
_NAMED: Final = 5  # partitions in a message
_LATER: Final = frozenset({ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_CONTROLLER, ErrorCode.NETWORK_EXCEPTION})
"""What another change of the quorum, or of its leader, is answered with: the same succeeds later."""


class TooLate(OttlaError):
    """Not within the time-out."""


def moves_away(
    topics: "Sequence[TopicDescription]", nodes: "Sequence[Node]", leaving: int
) -> "dict[TopicPartition, list[int]]":
    """For each partition with a replica on `leaving`: its replicas when another node has that one.

    The other node is one in a rack of its own, if there is one, and among these the one with the fewest replicas; it
    takes the same place in the list, so that preferred leaders stay spread. Raises ConfigError when there is no other.
    """
    from ottla.client import TopicPartition

    racks = {node.node_id: node.rack for node in nodes}
    active = [node.node_id for node in nodes if not (node.fenced or node.stopping) and node.node_id != leaving]
    load = Counter(replica for topic in topics for part in topic.partitions for replica in part.replica_ids)
    moves: dict[TopicPartition, list[int]] = {}
    for topic in topics:
        for part in topic.partitions:
            if leaving not in part.replica_ids:
                continue
            others = [replica for replica in part.replica_ids if replica != leaving]
            used = {racks.get(replica) for replica in others}
            free = [node for node in active if node not in others]
            if not free:
                raise ConfigError(
                    f"{topic.name}-{part.partition} has {len(part.replica_ids)} replicas, and besides node {leaving} "
                    f"only {len(active)} node(s) are there to hold them: add one first (`ottla node add`)"
                )
            chosen = min(free, key=lambda node: (racks.get(node) in used, load[node], node))
            load[chosen] += 1
            moves[TopicPartition(topic.name, part.partition)] = [
                chosen if replica == leaving else replica for replica in part.replica_ids
            ]
    return moves


async def drain(admin: "Admin", node: int) -> None:
    """Return when the node has no replica any more, also none of a topic that came meanwhile."""
    most, told = 0, -1
    while True:
        moving = await admin.list_reassignments()
        topics = await admin.describe_topics()
        if moving.keys() != (await admin.list_reassignments()).keys():
            continue  # what began or ended in between would be taken for what it is not
        leaving = [one for one, move in moving.items() if node in move.removing_replica_ids]
        goals = [_goal(topic, moving) for topic in topics]
        staying = moves_away(goals, (await admin.describe_cluster()).nodes, node)
        _check_led(topics, node)
        left = len(leaving) + len(staying)
        most = max(most, left)
        if staying:
            await admin.alter_reassignments(staying)
        if left != told and most:
            click.echo(f"{most - left} of {most} replica(s) of node {node} moved.")
            told = left
        if not left:
            return
        await asyncio.sleep(LOOK_S)


def _goal(topic: "TopicDescription", moving: "Mapping[TopicPartition, Reassignment]") -> "TopicDescription":
    """The topic as it will be when what moves has arrived."""
    from dataclasses import replace

    from ottla.client import TopicPartition

    def goal(part: "PartitionDescription") -> "PartitionDescription":
        move = moving.get(TopicPartition(topic.name, part.partition))
        gone = move.removing_replica_ids if move is not None else ()
        return replace(part, replica_ids=tuple(one for one in part.replica_ids if one not in gone))

    return replace(topic, partitions=tuple(map(goal, topic.partitions)))


def _check_led(topics: "Sequence[TopicDescription]", node: int) -> None:
    """What nobody leads cannot be copied from anywhere: waiting would be for ever."""
    lost = [
        f"{topic.name}-{part.partition}"
        for topic in topics
        for part in topic.partitions
        if node in part.replica_ids and part.leader_id < 0 and node in part.offline_replica_ids
    ]
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise ConfigError(
            f"{', '.join(lost[:_NAMED])}{more} has no leader: start node {node} again, it has what is missing"
        )


async def hand_vote_on(admin: "Admin", node: int, timeout_s: float) -> None:
    """The node votes no more; a node that follows votes in its place, if there is one."""
    quorum = await admin.describe_quorum()
    voters = [one.node_id for one in quorum.voters]
    if node not in voters:
        return
    active = {one.node_id for one in (await admin.describe_cluster()).nodes if not (one.fenced or one.stopping)}
    spare = sorted(
        one.node_id for one in quorum.observers if one.node_id in active and one.node_id not in (node, *voters)
    )
    if not spare and len(voters) == 1:
        raise ConfigError(f"node {node} is the only one that votes: add another node first (`ottla node add`)")
    if spare:
        await let_vote(admin, spare[0], timeout_s)
    others = sorted(active.intersection(voters) - {node}) or spare
    if quorum.leader_id == node and others:  # it hands over first, so that nobody has to wait for an election
        await _insist(lambda: admin.transfer_leadership(others[0]), timeout_s)
    await take_vote(admin, node, timeout_s)


async def let_vote(admin: "Admin", node: int, timeout_s: float) -> None:
    """The node, which runs, is brought up to date, and votes."""
    await _insist(lambda: admin.add_voter(node), timeout_s, done=ErrorCode.DUPLICATE_VOTER)
    click.echo(f"Node {node} votes.")


async def take_vote(admin: "Admin", node: int, timeout_s: float) -> None:
    """The node votes no more."""
    await _insist(lambda: admin.remove_voter(node), timeout_s, done=ErrorCode.VOTER_NOT_FOUND)
    click.echo(f"Node {node} does not vote any more.")


async def until_fenced(admin: "Admin", node: int, timeout_s: float) -> None:
    """Return when the controller knows that the node is gone. Raises TooLate."""

    async def is_fenced() -> bool:
        return any(one.node_id == node and one.fenced for one in (await admin.describe_cluster()).nodes)

    await _until(is_fenced, timeout_s, f"node {node} runs still: stop it, and run this again")


async def until_in_sync(admin: "Admin", node: int) -> None:
    """Return when all replicas of the node are in sync; tell how far it is."""
    told = -1
    while True:
        held = [
            part for topic in await admin.describe_topics() for part in topic.partitions if node in part.replica_ids
        ]
        ready = sum(node in part.in_sync_replica_ids for part in held)
        if ready != told and held:
            click.echo(f"{ready} of {len(held)} replica(s) of node {node} are in sync.")
            told = ready
        if ready == len(held):
            return
        await asyncio.sleep(LOOK_S)


async def _until(condition: Callable[[], Awaitable[bool]], timeout_s: float, late: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await condition():
        if loop.time() > deadline:
            raise TooLate(late)
        await asyncio.sleep(LOOK_S)


async def _insist(call: Callable[[], Awaitable[None]], timeout_s: float, *, done: ErrorCode | None = None) -> None:
    """Repeat what the quorum cannot do just now. `done`: the error that says that it is so already."""
    from ottla.client.errors import ClientError

    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            return await call()
        except ClientError as error:
            if error.code is done:
                return None
            if error.code not in _LATER or loop.time() > deadline:
                raise
        await asyncio.sleep(LOOK_S)
