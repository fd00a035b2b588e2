"""UpdateFeatures (KIP-584, KIP-778, KIP-1022): what the cluster does from now on, when all of its nodes can."""

from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.requests import FeatureUpdate, UpgradeType
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.protocol.messages.update_features_response import UpdatableFeatureResult, UpdateFeaturesResponse

_UPGRADE_TYPES_SINCE: Final = 1
_NO_RESULTS_SINCE: Final = 2  # all features or none: one error says it


async def update_features(
    broker: Broker, request: UpdateFeaturesRequest, context: RequestContext
) -> UpdateFeaturesResponse:
    """All or nothing, in every version."""
    version = context.api_version
    updates = [_update(one, version) for one in request.feature_updates]
    try:
        await broker.controller.local.update_features(updates, validate_only=request.validate_only)
    except ApiError as error:
        if version >= _NO_RESULTS_SINCE or error.code is ErrorCode.NOT_CONTROLLER:
            return UpdateFeaturesResponse(error_code=error.code, error_message=error.message or None)
        return UpdateFeaturesResponse(error_message=None, results=_results(updates, error.code, error.message or None))
    results = _results(updates, ErrorCode.NONE, None) if version < _NO_RESULTS_SINCE else []
    return UpdateFeaturesResponse(error_message=None, results=results)


def _update(one: FeatureUpdateKey, version: int) -> FeatureUpdate:
    if version >= _UPGRADE_TYPES_SINCE:
        kind = UpgradeType(one.upgrade_type) if one.upgrade_type in set(UpgradeType) else UpgradeType.UNKNOWN
    else:
        kind = UpgradeType.SAFE_DOWNGRADE if one.allow_downgrade else UpgradeType.UPGRADE
    return FeatureUpdate(name=one.feature, level=one.max_version_level, upgrade_type=kind)


def _results(updates: list[FeatureUpdate], code: ErrorCode, message: str | None) -> list[UpdatableFeatureResult]:
    return [UpdatableFeatureResult(feature=one.name, error_code=code, error_message=message) for one in updates]
