import pytest

from ottla.controller.image import MetadataImage
from ottla.controller.remove_broker import replace_broker, unregister_broker
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import configs, image_of
from tests.unit.controller.states import TOPIC, brokers, change, fenced, holding, partition

ONE = NodeId(1)
FORGOTTEN = pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=1, directory_id=b""))


def replaced(image: MetadataImage, node: int = 1) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        replace_broker(image, configs(image), NodeId(node))
    return caught.value.code


def test_what_an_unregistered_broker_led_goes_to_others() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)))
    decision = unregister_broker(image, configs(image), ONE)
    gone = pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=1))
    assert decision.records == [change(leader=2, isr=[2, 3]), gone]
    with pytest.raises(ApiError) as caught:
        unregister_broker(image, configs(image), NodeId(9))
    assert caught.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED


def test_a_broker_whose_disk_is_lost_leaves_isr_and_elr_and_may_bring_another_directory() -> None:
    image = holding(
        brokers(), partition(-1, (1, 2)), partition(2, (2,), elr=(1,), index=1), partition(2, (2, 3), index=2)
    )
    image = image_of([fenced(1)], base=image)
    decision = replace_broker(image, configs(image), ONE)
    assert decision.result == []
    assert decision.records == [
        change(0, leader=2, isr=[2], last_known_elr=[1]),
        change(1, elr=[], last_known_elr=[1]),
        FORGOTTEN,
    ]


def test_records_that_nobody_else_has_are_given_up_only_when_that_is_accepted() -> None:
    image = holding(brokers(fenced=[1]), partition(-1, (1,)), partition(-1, (1,), elr=(2,), index=1))
    assert replaced(image) is ErrorCode.INVALID_REQUEST
    decision = replace_broker(image, configs(image), ONE, accept_loss=True)
    assert decision.result == [(TOPIC, 0)]
    assert decision.records == [change(1, leader=2, isr=[2], elr=[], last_known_elr=[1]), FORGOTTEN]


def test_a_broker_that_is_alive_or_unknown_is_not_replaced() -> None:
    assert replaced(brokers()) is ErrorCode.INVALID_REQUEST
    assert replaced(brokers(), 9) is ErrorCode.BROKER_ID_NOT_REGISTERED
