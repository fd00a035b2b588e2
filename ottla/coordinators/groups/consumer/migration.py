"""A group changes its protocol while its members work (KIP-848, `group.consumer.migration.policy`).

The first member of the new protocol turns a classic group into a consumer group: who is a member stays one, with what
it has, and goes on with the classic protocol. When the last member of the new protocol has left, the group becomes a
classic one again. Both are tombstones and records of one batch, so that there is never a group of both kinds or none.

The records of the second way name no leader: nobody has led that generation, so whoever coordinates the group begins a
rebalance, the present coordinator at once, another one when it has loaded them.
"""

from collections.abc import Iterator

from ottla.coordinators.groups import records as classic_records
from ottla.coordinators.groups.classic_group import ClassicGroup
from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.consumer import records
from ottla.coordinators.groups.consumer.classic_calls import CONSUMER_PROTOCOL_TYPE
from ottla.coordinators.groups.consumer.embedded import decode_assignment, decode_subscription, encode_assignment
from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.coordinators.groups.consumer.leaving import group_tombstones
from ottla.coordinators.groups.consumer.member import ClassicMember, ConsumerMember
from ottla.coordinators.groups.member import Member
from ottla.coordinators.groups.topics import Topics
from ottla.coordinators.runtime import CoordinatorRecord
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.core.types import Uuid


def may_upgrade(group: ClassicGroup, config: GroupConfig) -> bool:
    """Whether a classic group with members may become a consumer group."""
    return (
        config.consumer_migration_policy in ("upgrade", "bidirectional")
        and group.protocol_type == CONSUMER_PROTOCOL_TYPE
        and len(group.members) <= config.consumer_max_size
    )


def may_downgrade(group: ConsumerGroup, config: GroupConfig) -> bool:
    """Whether a consumer group is to become a classic group: nobody in it speaks another protocol any more."""
    return (
        config.consumer_migration_policy in ("downgrade", "bidirectional")
        and 0 < len(group.members) <= config.group_max_size
        and all(member.classic is not None for member in group.members.values())
    )


def upgraded(group: ClassicGroup, topics: Topics, now_ms: int) -> list[CoordinatorRecord]:
    """The records of the consumer group that takes a classic group's place, without the end of that.

    Its epoch is the classic generation, and its hash that of no topics: so the member that comes, and the look at the
    topics, raise the epoch. Raises ApiError GROUP_ID_NOT_FOUND for members whose subscription is not understood.
    """
    taken: set[tuple[Uuid, int]] = set()
    try:
        members = [_consumer_member(group, member, topics, taken) for member in group.members.values()]
    except DecodeError as error:
        raise ApiError(
            ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group.group_id} is not a consumer group, and cannot be one: {error}"
        ) from None
    group_id, epoch = group.group_id, group.generation_id
    return [
        *(records.member(group_id, member) for member in members),
        records.group_epoch(group_id, epoch, 0),
        *(
            records.target(group_id, one.member_id, {topic: frozenset(part) for topic, part in one.assigned.items()})
            for one in members
        ),
        records.target_epoch(group_id, epoch, now_ms),
        *(records.current_assignment(group_id, member) for member in members),
    ]


def _consumer_member(
    group: ClassicGroup, member: Member, topics: Topics, taken: set[tuple[Uuid, int]]
) -> ConsumerMember:
    """`taken` has what other members have: a leader of the classic protocol may have given a partition to two."""
    name = group.protocol_name
    metadata = member.metadata(name) if name is not None else b""
    subscription = decode_subscription(metadata or member.protocols[0][1], topics)
    epoch = group.generation_id
    assigned: dict[Uuid, dict[int, int]] = {}
    for topic_id, partitions in decode_assignment(member.assignment, topics).items():
        for partition in sorted(partitions):
            if (topic_id, partition) not in taken:
                taken.add((topic_id, partition))
                assigned.setdefault(topic_id, {})[partition] = epoch
    return ConsumerMember(
        member_id=member.member_id,
        instance_id=member.group_instance_id,
        rack_id=subscription.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        subscribed_topics=subscription.topics,
        classic=ClassicMember(member.session_timeout_ms, tuple(member.protocols)),
        epoch=epoch,
        previous_epoch=epoch,
        assigned=assigned,
    )


def downgraded(group: ConsumerGroup, topics: Topics, now_ms: int) -> Iterator[CoordinatorRecord]:
    """The end of a consumer group whose members all speak the classic protocol, and its record as a classic group.

    The generation is the highest of its members' epochs: these hear of the rebalance in a heartbeat, and whoever is
    behind has to join anew.
    """
    yield from group_tombstones(group)
    classic = ClassicGroup(group.group_id)
    assignments = {}
    for one in group.members.values():
        assert one.classic is not None
        classic.add(
            Member(
                group.group_id,
                one.member_id,
                group_instance_id=one.instance_id,
                client_id=one.client_id,
                client_host=one.client_host,
                rebalance_timeout_ms=one.rebalance_timeout_ms,
                session_timeout_ms=one.classic.session_timeout_ms,
                protocols=list(one.classic.protocols),
            ),
            CONSUMER_PROTOCOL_TYPE,
        )
        version = decode_subscription(one.classic.protocols[0][1], topics).version
        assignments[one.member_id] = encode_assignment(one.assigned, version, topics)
    classic.generation_id = max(one.epoch for one in group.members.values())
    classic.protocol_name = classic.select_protocol()
    classic.leader_id = None
    yield classic_records.stable_group(classic, assignments, now_ms)
