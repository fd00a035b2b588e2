"""ConsumerGroupHeartbeat at a broker: served at the cluster's `group.version` 1, and refused before."""

from ottla.broker.broker import Broker
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import update_features_request as features
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from tests.unit.broker.one_broker import context, start_broker


async def beat(broker: Broker) -> ErrorCode:
    """Both ways in agree."""
    request = ConsumerGroupHeartbeatRequest(group_id="g", member_id="m", member_epoch=1)
    codes: list[int] = []
    broker.take(ApiKey.CONSUMER_GROUP_HEARTBEAT, request, context(1), lambda answer: codes.append(answer.error_code))
    answer = await broker.handle(ApiKey.CONSUMER_GROUP_HEARTBEAT, request, context(1))
    assert codes == [answer.error_code]
    return ErrorCode(answer.error_code)


async def test_group_version_decides() -> None:
    broker = await start_broker()
    assert broker.image.features["group.version"] == 1
    assert await beat(broker) is ErrorCode.NOT_COORDINATOR, "it is served, but nobody has asked for the coordinator"
    down = features.FeatureUpdateKey(feature="group.version", max_version_level=0, upgrade_type=2)
    await broker.handle(ApiKey.UPDATE_FEATURES, features.UpdateFeaturesRequest(feature_updates=[down]), context(1))
    assert broker.image.features.get("group.version", 0) == 0
    assert await beat(broker) is ErrorCode.UNSUPPORTED_VERSION
