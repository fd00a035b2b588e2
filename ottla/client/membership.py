"""A consumer's part in its group (KIP-848): what it tells the coordinator, and what the answers mean. Pure.

state        on                                              becomes
──────────   ─────────────────────────────────────────────   ─────────
OUT          join()                                          JOINING
JOINING      answer                                          MEMBER
MEMBER       answer (the target may change)                  MEMBER
JOINING, MEMBER   fenced(): the coordinator dropped it       JOINING   all partitions are lost
JOINING, MEMBER   left()                                     OUT       all partitions are lost

The coordinator moves partitions one by one: a member gets a new target, gives up what is not in it, says so with its
next heartbeat, and gets what others have given up. So partitions that stay are never interrupted. `difference` is what
there is to do; the caller does it (commits, asks the application) and tells it with `gave_up` and `took`.

A heartbeat that tells what is owned also tells what is not, and the coordinator may give that to others at once. So
from the moment at which one is sent nothing is taken until one is answered: the target may be another one by then.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from ottla.client.coordination import GroupMetadata, HeartbeatAnswer, HeartbeatRequest
from ottla.client.types import TopicPartition

JOIN_EPOCH = 0
LEAVE_EPOCH = -1
LEAVE_STATIC_EPOCH = -2  # comes back under its instance id: nothing moves meanwhile (KIP-345)


class MemberState(Enum):
    """See the table above."""

    OUT = "out"
    JOINING = "joining"
    MEMBER = "member"


class Membership:
    """One consumer in one group. Partitions carry their topic's id: one that was made anew is another one."""

    def __init__(
        self,
        *,
        group_id: str,
        member_id: str,
        instance_id: str | None = None,
        rack_id: str | None = None,
        rebalance_timeout_ms: int,
        assignor: str | None = None,
    ) -> None:
        self.group_id, self.member_id, self.instance_id = group_id, member_id, instance_id
        self._rack_id, self._rebalance_timeout_ms, self._assignor = rack_id, rebalance_timeout_ms, assignor
        self.state = MemberState.OUT
        self.epoch = JOIN_EPOCH
        self.interval_ms = 5_000  # until the coordinator says it
        self.topics: tuple[str, ...] = ()
        self.owned: dict[TopicPartition, bytes] = {}
        self.lost: dict[TopicPartition, bytes] = {}  # until the application is told
        self._target: dict[TopicPartition, bytes] = {}
        self.is_settled = True  # nothing is lost, or to be given up or taken now: looked at for each record
        self._known_topics: tuple[str, ...] | None = None  # what the coordinator knows; None: it must be told anew
        self._known_owned: dict[TopicPartition, bytes] | None = None
        self._owes = False  # the coordinator has not been told that its target is reached
        self._telling = False  # it was told what is owned, perhaps, and has not answered

    # --- what the coordinator is told

    @property
    def is_in(self) -> bool:
        return self.state is not MemberState.OUT

    @property
    def has_news(self) -> bool:
        """Whether the coordinator waits for something that this member can tell now."""
        return self.is_in and (self.epoch == JOIN_EPOCH or self._known_topics != self.topics or self._has_moved)

    @property
    def _has_moved(self) -> bool:
        """Whether partitions were given up or taken; or a target is reached by itself, as when the one before it was
        not yet begun: also then the coordinator waits until it hears so.
        """
        return self._known_owned != self.owned or (self._owes and self.owned == self._target)

    def request(self) -> HeartbeatRequest:
        """The next heartbeat, to be sent: all there is to say when it joins or when the last one failed, else what
        changed.
        """
        whole = self._known_topics is None or self.epoch == JOIN_EPOCH
        tells_owned = whole or self._has_moved
        if tells_owned:
            self._telling = True
            self._look()
        return HeartbeatRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance_id,
            rack_id=self._rack_id if whole else None,
            rebalance_timeout_ms=self._rebalance_timeout_ms if whole else -1,
            topics=self.topics if whole or self._known_topics != self.topics else None,
            server_assignor=self._assignor if whole else None,
            owned=_by_topic(self.owned) if tells_owned else None,
        )

    def leaving(self) -> HeartbeatRequest:
        """The last heartbeat."""
        return HeartbeatRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=LEAVE_EPOCH if self.instance_id is None else LEAVE_STATIC_EPOCH,
            instance_id=self.instance_id,
        )

    # --- what happens

    def join(self, topics: Sequence[str]) -> None:
        """Read these topics; joins when it is not in the group."""
        self.topics = tuple(topics)
        if not self.is_in:
            self.state = MemberState.JOINING

    def answered(self, request: HeartbeatRequest, answer: HeartbeatAnswer) -> None:
        """The coordinator has taken `request`. One to an earlier membership says nothing any more."""
        if not self.is_in or request.member_epoch != self.epoch:
            return
        self.state = MemberState.MEMBER
        self.epoch, self.interval_ms = answer.member_epoch, answer.heartbeat_interval_ms
        if request.topics is not None:
            self._known_topics = tuple(request.topics)
        if request.owned is not None:
            # What was taken or given up since is news still.
            told = request.owned
            self._known_owned = dict(self.owned) if _by_topic(self.owned) == told else None
            self._owes = self._owes and told != _by_topic(self._target)
            self._telling = False
        if answer.assignment is not None:
            target = {
                TopicPartition(topic.name, index): topic.topic_id
                for topic, indexes in answer.assignment.items()
                if topic.name  # else it was deleted meanwhile
                for index in indexes
            }
            self._owes = self._owes or target != self._target
            self._target = target
        self._look()

    def failed(self) -> None:
        """Nobody knows whether the coordinator heard the last heartbeat: the next one says everything."""
        self._known_topics = self._known_owned = None

    def fenced(self) -> None:
        """The coordinator does not know this member any more, and has given its partitions to others."""
        self._lose_all()
        self.state = MemberState.JOINING

    def left(self) -> None:
        """It is no member any more."""
        self._lose_all()
        self.state = MemberState.OUT

    def _lose_all(self) -> None:
        self.lost |= self.owned
        self.owned, self._target, self._owes, self._telling = {}, {}, False, False
        self.epoch = JOIN_EPOCH
        self.failed()
        self._look()

    # --- what there is to do

    def difference(self) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Partitions to give up, and those to take now."""
        if self.state is not MemberState.MEMBER:
            return [], []
        revoked = [one for one, topic_id in self.owned.items() if self._target.get(one) != topic_id]
        added = [one for one, topic_id in self._target.items() if self.owned.get(one) != topic_id]
        return sorted(revoked), [] if self._telling else sorted(added)

    def _look(self) -> None:
        is_reached = self.owned.items() <= self._target.items() if self._telling else self.owned == self._target
        self.is_settled = not self.lost and is_reached

    def told_lost(self) -> None:
        """The application knows what it has lost, or is about to be told."""
        self.lost = {}
        self._look()

    def gave_up(self, partitions: Iterable[TopicPartition]) -> None:
        """The application is done with them."""
        for one in partitions:
            self.owned.pop(one, None)
        self._look()

    def took(self, partitions: Iterable[TopicPartition]) -> None:
        """They are read from now on, unless the target changed meanwhile."""
        self.owned |= {one: self._target[one] for one in partitions if one in self._target}
        self._look()

    def metadata(self) -> GroupMetadata:
        """Under which membership to commit."""
        if self.state is not MemberState.MEMBER:
            return GroupMetadata(group_id=self.group_id, instance_id=self.instance_id)
        return GroupMetadata(
            group_id=self.group_id, member_id=self.member_id, member_epoch=self.epoch, instance_id=self.instance_id
        )


def _by_topic(partitions: Mapping[TopicPartition, bytes]) -> dict[bytes, list[int]]:
    topics: dict[bytes, list[int]] = {}
    for one, topic_id in sorted(partitions.items()):
        topics.setdefault(topic_id, []).append(one.partition)
    return topics
