from dataclasses import replace

import pytest

from ottla.controller.features import SUPPORTED_FEATURES, update_features
from ottla.controller.found_cluster import found_cluster
from ottla.controller.image import MetadataImage
from ottla.controller.requests import FeatureUpdate, UpgradeType
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import ZERO_UUID
from ottla.kafka.api_versions import FEATURES
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import configs, image_of, register, registration
from tests.unit.controller.states import brokers

NAME = "metadata.version"
RANGES = {NAME: (7, 30), "transaction.version": (0, 2)}


def level(name: str, value: int) -> pb.MetadataRecord:
    return pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name=name, level=value))


@pytest.fixture
def image() -> MetadataImage:
    image = brokers(0)
    for node in (1, 2):
        image = image_of(register(image, replace(registration(node), features=RANGES)).records, base=image)
    return image_of([level(NAME, 20), level("transaction.version", 1)], base=image)


def test_what_the_controller_supports_is_what_clients_are_told() -> None:
    assert SUPPORTED_FEATURES == FEATURES


def test_a_feature_is_raised_when_all_support_the_level(image: MetadataImage) -> None:
    updates = [FeatureUpdate(name=NAME, level=30), FeatureUpdate(name="transaction.version", level=1)]
    decision = update_features(image, updates, RANGES)
    assert decision.records == [level(NAME, 30)]
    assert image_of(decision.records, base=image).features[NAME] == 30


def test_a_feature_is_lowered_only_as_a_downgrade_and_metadata_version_never(image: MetadataImage) -> None:
    down = FeatureUpdate(name="transaction.version", level=0, upgrade_type=UpgradeType.SAFE_DOWNGRADE)
    assert update_features(image, [down], RANGES).records == [level("transaction.version", 0)]


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (FeatureUpdate(name="other", level=1), ErrorCode.INVALID_UPDATE_VERSION),
        (FeatureUpdate(name=NAME, level=31), ErrorCode.INVALID_UPDATE_VERSION),
        (FeatureUpdate(name=NAME, level=6), ErrorCode.INVALID_UPDATE_VERSION),
        (FeatureUpdate(name=NAME, level=-1), ErrorCode.INVALID_UPDATE_VERSION),
        (FeatureUpdate(name=NAME, level=19), ErrorCode.INVALID_UPDATE_VERSION),
        (
            FeatureUpdate(name=NAME, level=19, upgrade_type=UpgradeType.UNSAFE_DOWNGRADE),
            ErrorCode.INVALID_UPDATE_VERSION,
        ),
        (
            FeatureUpdate(name=NAME, level=21, upgrade_type=UpgradeType.SAFE_DOWNGRADE),
            ErrorCode.INVALID_UPDATE_VERSION,
        ),
        (FeatureUpdate(name=NAME, level=21, upgrade_type=UpgradeType.UNKNOWN), ErrorCode.INVALID_REQUEST),
    ],
)
def test_updates_that_are_refused(image: MetadataImage, update: FeatureUpdate, expected: ErrorCode) -> None:
    with pytest.raises(ApiError) as caught:
        update_features(image, [update], RANGES)
    assert caught.value.code is expected


def test_one_broker_that_does_not_support_a_level_is_enough(image: MetadataImage) -> None:
    old = replace(registration(3), features={NAME: (7, 20), "transaction.version": (0, 1)})
    image = image_of(register(image, old).records, base=image)
    with pytest.raises(ApiError) as caught:
        update_features(image, [FeatureUpdate(name=NAME, level=21)], RANGES)
    assert "broker 3 supports 7 to 20" in caught.value.message


def test_a_feature_that_stands_twice_is_refused(image: MetadataImage) -> None:
    with pytest.raises(ApiError) as caught:
        update_features(image, [FeatureUpdate(name=NAME, level=30)] * 2, RANGES)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_a_cluster_founded_with_three_nodes_keeps_three_replicas_two_of_them_in_sync() -> None:
    decision = found_cluster(MetadataImage(), 3, ZERO_UUID)
    image = image_of(decision.records)
    assert decision.result
    assert configs(image).integer("default.replication.factor") == 3
    assert configs(image).integer("offsets.topic.replication.factor") == 3
    assert configs(image).integer("transaction.state.log.replication.factor") == 3
    assert configs(image).integer("transaction.state.log.min.isr") == 2
    assert configs(image).topic_configs("a") == {"min.insync.replicas": "2"}
    assert configs(image, {"min.insync.replicas": "1"}).topic_configs("a") == {"min.insync.replicas": "1"}
    assert configs(image).inherited("min.insync.replicas").value == "2"
    assert found_cluster(image, 3, ZERO_UUID).records == []


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_new_cluster_does_all_that_its_version_can(nodes: int) -> None:
    image = image_of(found_cluster(MetadataImage(), nodes, ZERO_UUID).records)
    assert image.features == {name: highest for name, (_, highest) in SUPPORTED_FEATURES.items()}
    assert image.features["transaction.version"] == 2
    assert found_cluster(image, nodes, ZERO_UUID).records == []


def test_a_node_that_is_alone_has_the_usual_defaults() -> None:
    assert image_of(found_cluster(MetadataImage(), 1, ZERO_UUID).records).default_configs == {}


def test_a_cluster_of_an_earlier_version_keeps_its_levels() -> None:
    assert found_cluster(brokers(1), 3, ZERO_UUID).records == []
