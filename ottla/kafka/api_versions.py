"""What the broker says it speaks: exactly what it serves, with two exceptions that Kafka has too.

Produce is advertised from version 0 although it is served from 3 (KAFKA-18659: librdkafka would stop compressing
otherwise), and an ApiVersions request of an unknown version is answered in version 0 with error 35 (KIP-511).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.controller.features import SUPPORTED_FEATURES
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.protocol.messages.api_versions_response import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

MAX_VERSIONS: Final[Mapping[int, int]] = {
    ApiKey.INIT_PRODUCER_ID: 5,  # 6 is for two-phase commit (KIP-939)
    ApiKey.ADD_PARTITIONS_TO_TXN: 3,  # from 4 on brokers ask each other (KIP-890), over the mesh
}
_FIRST_ADVERTISED: Final[Mapping[int, int]] = {ApiKey.PRODUCE: 0}

# Kafka's features, and the lowest and highest level that is served: what brokers register with. What is not served yet
# is not there: clients take its absence for level 0.
FEATURES: Final[Mapping[str, tuple[int, int]]] = SUPPORTED_FEATURES


def served_versions(api_keys: Iterable[int]) -> dict[int, tuple[int, int]]:
    """The first and the last version that is served of each of these request types."""
    served: dict[int, tuple[int, int]] = {}
    for key in sorted(api_keys):
        first, last, _ = VERSIONS[key]
        served[int(key)] = first, min(last, MAX_VERSIONS.get(key, last))
    return served


def api_versions_response(
    served: Mapping[int, tuple[int, int]], finalized: Mapping[str, int], epoch: int, version: int
) -> ApiVersionsResponse:
    """The answer in a version that is served."""
    return ApiVersionsResponse(
        api_keys=[
            ApiVersion(api_key=key, min_version=_FIRST_ADVERTISED.get(key, first), max_version=last)
            for key, (first, last) in served.items()
        ],
        supported_features=[
            SupportedFeatureKey(name=name, min_version=lowest, max_version=highest)
            for name, (lowest, highest) in FEATURES.items()
            if lowest > 0 or version >= 4  # KAFKA-17011: older readers take a minimum of 0 for an error
        ],
        finalized_features_epoch=epoch,
        finalized_features=[
            FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, level in finalized.items()
            if level > 0
        ],
    )


def unsupported_version_response() -> ApiVersionsResponse:
    """Tells a client which versions of ApiVersions it may use; encoded in version 0."""
    first, last, _ = VERSIONS[ApiKey.API_VERSIONS]
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=first, max_version=last)],
    )
