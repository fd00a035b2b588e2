"""The calls of members of classic groups: join, sync, heartbeat, leave."""

from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse
from ottla.protocol.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.group_node import GroupNode


class MembershipCalls(GroupNode):
    """Each one lets the node work until it is answered, or has nothing more to do."""

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        instance: str | None = None,
        protocols: tuple[str, ...] = ("range",),
        metadata: bytes = b"",
        version: int = 9,
        client: str = "client",
        session_timeout_ms: int | None = None,
        rebalance_timeout_ms: int = 60_000,
        protocol_type: str = "consumer",
    ) -> Answer:
        answer = Answer(self.log)
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=self.session_timeout_ms if session_timeout_ms is None else session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name in protocols],
        )
        self.coordinator.join_group(request, self._caller(version, client), answer)
        self.run()
        return answer

    def join_new(self, **arguments: Any) -> tuple[str, Answer]:
        """A new member: asks for an id and comes back with it. Its id, and what awaits the rebalance."""
        first: JoinGroupResponse = self.join(**arguments).take()
        assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
        return first.member_id, self.join(first.member_id, **arguments)

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        protocol: str | None = "range",
    ) -> Answer:
        answer = Answer()
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type="consumer",
            protocol_name=protocol,
            assignments=[
                SyncGroupRequestAssignment(member_id=name, assignment=part)
                for name, part in (assignments or {}).items()
            ],
        )
        # Version 5 has to name the protocol.
        self.coordinator.sync_group(request, self._caller(4 if protocol is None else 5), answer)
        self.run()
        return answer

    def heartbeat(self, member_id: str, generation: int, *, group: str = "g", instance: str | None = None) -> ErrorCode:
        answer = Answer()
        self.coordinator.heartbeat(
            HeartbeatRequest(group_id=group, generation_id=generation, member_id=member_id, group_instance_id=instance),
            self._caller(4),
            answer,
        )
        self.run()
        response: HeartbeatResponse = answer.take()
        return ErrorCode(response.error_code)

    def leave(
        self, *members: str, group: str = "g", instances: tuple[str, ...] = (), version: int = 5
    ) -> LeaveGroupResponse:
        answer = Answer()
        if version < 3:
            (member_id,) = members
            request = LeaveGroupRequest(group_id=group, member_id=member_id)
            self.coordinator.leave_group(request, self._caller(version), answer)
            self.run()
            old: LeaveGroupResponse = answer.take()
            return old
        identities = [MemberIdentity(member_id=member_id) for member_id in members]
        identities += [MemberIdentity(member_id="", group_instance_id=instance) for instance in instances]
        self.coordinator.leave_group(LeaveGroupRequest(group_id=group, members=identities), self._caller(5), answer)
        self.run()
        response: LeaveGroupResponse = answer.take()
        return response
