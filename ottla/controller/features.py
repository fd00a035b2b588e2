"""The decision on levels of features (UpdateFeatures, KIP-584, KIP-778, KIP-1022).

A feature is raised by command, when every broker and this controller support the level: so a rolling upgrade changes
what nodes can do first, and what the cluster does afterwards. Only what is served has a range here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.controller.requests import FeatureUpdate, UpgradeType
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.v1 import metadata_pb2 as pb

METADATA_VERSION: Final = "metadata.version"
TRANSACTION_VERSION: Final = "transaction.version"

GROUP_VERSION: Final = "group.version"

SUPPORTED_FEATURES: Final[Mapping[str, tuple[int, int]]] = {
    METADATA_VERSION: (7, 30),  # 3.3-IV3 to 4.3-IV0
    TRANSACTION_VERSION: (0, 2),  # 2: producers' epochs are raised by every transaction (KIP-890)
    GROUP_VERSION: (0, 1),  # 1: the consumer group protocol of KIP-848
}
"""Kafka's features, and the lowest and highest level of each."""


def update_features(
    image: MetadataImage,
    updates: Sequence[FeatureUpdate],
    supported: Mapping[str, tuple[int, int]] = SUPPORTED_FEATURES,
) -> Decision[None]:
    """All or nothing, as Kafka since version 2 of the request.

    Raises ApiError: INVALID_REQUEST, INVALID_UPDATE_VERSION for a level that somebody does not support or that goes
    the wrong way.
    """
    counts = Counter(update.name for update in updates)
    decision: Decision[None] = Decision(None)
    for update in updates:
        if counts[update.name] > 1:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"The feature {update.name} stands more than once.")
        _check(image, update, supported)
        if image.features.get(update.name, 0) != update.level:
            record = pb.FeatureLevelRecord(name=update.name, level=update.level)
            decision.records.append(pb.MetadataRecord(feature_level=record))
    return decision


def _check(image: MetadataImage, update: FeatureUpdate, supported: Mapping[str, tuple[int, int]]) -> None:
    name, level, current = update.name, update.level, image.features.get(update.name, 0)
    if update.upgrade_type not in (UpgradeType.UPGRADE, UpgradeType.SAFE_DOWNGRADE, UpgradeType.UNSAFE_DOWNGRADE):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{name}: say whether it is an upgrade or a downgrade.")
    if level < 0 or name not in supported:
        raise _refused(
            name, level, "the controller does not support this feature." if level >= 0 else "it is negative."
        )
    lowest, highest = supported[name]
    if level and not lowest <= level <= highest:
        raise _refused(name, level, f"the controller supports {lowest} to {highest}.")
    if level < current:
        _check_downgrade(update, current)
    elif level > current and update.upgrade_type is not UpgradeType.UPGRADE:
        raise _refused(name, level, f"that is no downgrade: it is {current}.")
    for broker in image.brokers.values():
        if level:
            low, high = broker.features.get(name, (0, 0))
            if not low <= level <= high:
                raise _refused(name, level, f"broker {broker.id} supports {low} to {high}.")


def _check_downgrade(update: FeatureUpdate, current: int) -> None:
    if update.upgrade_type is UpgradeType.UPGRADE:
        raise _refused(update.name, update.level, f"it is {current}; ask for a downgrade to lower it.")
    if update.name == METADATA_VERSION:
        raise _refused(update.name, update.level, f"it is {current}, and {METADATA_VERSION} cannot be lowered.")


def _refused(name: str, level: int, why: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_UPDATE_VERSION, f"{name} cannot be {level}: {why}")
