from dataclasses import replace

import pytest

from ottla.controller.broker_records import registration_of, registration_record
from ottla.controller.image import NO_LEADER, Endpoint, MetadataImage
from ottla.controller.register_broker import register_broker
from ottla.controller.requests import BrokerRegistration
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import configs, image_of, register, registration, uuid
from tests.unit.controller.states import TOPIC_ID, brokers, change, changes, fenced, holding, nodes, partition

PAGE_CACHE = {"min.insync.replicas": "2", "ottla.flush.on.ack": "false"}


def kinds(records: list[pb.MetadataRecord]) -> list[str | None]:
    return [record.WhichOneof("record") for record in records]


def full_registration(incarnation: int = 1) -> BrokerRegistration:
    return replace(
        registration(1, incarnation, rack="r"),
        replication=Endpoint("host1", 11092),
        directory_id=uuid(7),
        boot_id="boot",
    )


def code(image: MetadataImage, asked: BrokerRegistration, *, previous_is_live: bool = False) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        register_broker(image, configs(image), asked, previous_is_live=previous_is_live)
    return caught.value.code


def test_a_new_broker_is_fenced_until_it_is_ready() -> None:
    image = image_of(register(MetadataImage(), full_registration(), ready=False).records)
    broker = image.brokers[NodeId(1)]
    assert (broker.fenced, broker.is_active, broker.epoch) == (True, False, 1)
    assert (broker.replication, broker.directory_id, broker.boot_id) == (Endpoint("host1", 11092), uuid(7), "boot")
    assert broker.features["metadata.version"] == (7, 30)


def test_a_registration_goes_over_the_wire_as_its_record() -> None:
    assert registration_of(registration_record(full_registration())) == full_registration()


def test_broker_epochs_are_never_given_out_again() -> None:
    image = image_of([pb.MetadataRecord(unregister_broker=pb.UnregisterBrokerRecord(broker_id=3))], base=brokers())
    assert register(image, registration(3, 9)).result == 4


def test_whatever_a_new_incarnation_led_goes_to_others_in_the_same_batch() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)), partition(1, (1,), index=1), partition(2, (2, 3), index=2))
    decision = register(image, registration(1, 9), ready=False)
    assert decision.result == 4
    assert decision.records[:-1] == [change(0, leader=2, isr=[2, 3]), change(1, leader=-1)]
    assert kinds(decision.records)[-1] == "register_broker"


def test_a_new_incarnation_that_is_the_last_in_sync_keeps_its_place_and_is_eligible_elsewhere() -> None:
    image = holding(brokers(), partition(1, (1, 2)), partition(1, (1,), elr=(3,), index=1))
    decision = register(image, registration(1, 9), ready=False)
    assert decision.records[:-1] == [change(0, leader=2, isr=[2], elr=[1]), change(1, leader=3, isr=[3], elr=[1])]


@pytest.mark.parametrize(
    ("old_boot", "new_boot", "previous_epoch", "loses"),
    [
        ("b", "c", 0, True),  # the operating system crashed
        ("b", "b", 0, False),  # the process crashed
        ("b", "c", 1, False),  # it stopped in order, then the machine was restarted
        ("", "", 0, True),  # nothing is known
    ],
)
def test_without_flushes_a_replica_leaves_isr_and_elr_after_a_crash_of_the_operating_system(
    old_boot: str, new_boot: str, previous_epoch: int, loses: bool
) -> None:
    old = replace(registration(1), boot_id=old_boot)
    image = image_of(register(MetadataImage(), old).records)
    for node in (2, 3):
        image = image_of(register(image, registration(node)).records, base=image)
    image = image_of([fenced(2)], base=image)
    lone = [partition(1, (1,), elr=(2,)), partition(3, (3,), elr=(1,), index=1), partition(1, (1, 3), index=2)]
    new = replace(registration(1, 9), boot_id=new_boot, previous_broker_epoch=previous_epoch)

    page_cache = holding(image, *lone, configs=PAGE_CACHE)
    records = register_broker(page_cache, configs(page_cache), new).records[:-1]
    if loses:
        assert records == [
            change(0, leader=-1, isr=[2], elr=[], last_known_elr=[1]),
            change(1, elr=[], last_known_elr=[1]),
            change(2, leader=3, isr=[3], last_known_elr=[1]),
        ]
    else:
        assert records == [change(0, leader=-1), change(2, leader=3, isr=[3], elr=[1])]

    durable = holding(image, *lone)
    assert register_broker(durable, configs(durable), new).records[:-1] == [
        change(0, leader=-1),
        change(2, leader=3, isr=[3], elr=[1]),
    ]


def test_a_node_that_is_alone_leads_at_once_in_the_next_epoch() -> None:
    image = holding(brokers(1), partition(1, (1,), (1,)), partition(-1, (1,), (1,), index=1))
    decision = register(image, registration(1, 9))
    assert kinds(decision.records) == ["register_broker", "renew_leaderships", "partition_change"]
    after = image_of(decision.records, base=image)
    assert [(p.leader, p.leader_epoch) for p in after.topics["a"].partitions] == [(1, 6), (1, 6)]
    assert after.brokers[NodeId(1)].is_active


def test_the_same_incarnation_keeps_its_epoch_and_stays_as_it_was() -> None:
    image = holding(brokers(fenced=[2]), partition(1, (1,)))
    for node, is_fenced in ((1, False), (2, True)):
        decision = register(image, registration(node), ready=False)
        assert (decision.result, kinds(decision.records)) == (node, ["register_broker"])
        after = image_of(decision.records, base=image)
        assert after.brokers == image.brokers
        assert after.brokers[NodeId(node)].fenced is is_fenced


def test_a_second_broker_with_the_same_id_is_refused_while_the_first_is_alive() -> None:
    image = brokers()
    assert code(image, registration(1, 9), previous_is_live=True) is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    register_broker(image, configs(image), registration(1, 1), previous_is_live=True)  # it may ask again


def test_another_directory_is_refused_until_the_broker_was_replaced() -> None:
    image = image_of(register(MetadataImage(), full_registration()).records)
    emptied = replace(full_registration(9), directory_id=uuid(8))
    assert code(image, emptied) is ErrorCode.INVALID_REGISTRATION
    forget = pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=1, directory_id=b""))
    image = image_of([forget], base=image)
    assert register(image, emptied).result == 2


def test_a_broker_must_support_what_is_finalised() -> None:
    level = pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name="metadata.version", level=25))
    image = image_of([level], base=brokers())
    old = replace(registration(4), features={"metadata.version": (7, 24)})
    assert code(image, old) is ErrorCode.UNSUPPORTED_VERSION
    assert code(image, replace(registration(4), features={})) is ErrorCode.UNSUPPORTED_VERSION
    register(image, registration(4))


def test_after_a_loss_of_power_the_first_to_return_leads() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)), partition(2, (2, 3, 1), index=1))
    everybody = [changes({TOPIC_ID: [0, 1]}, leader=-1), fenced(1), fenced(2), fenced(3)]
    image = image_of(everybody, base=image)
    decision = register(image, registration(3, 9), ready=False)
    assert kinds(decision.records) == ["register_broker"]
    image = image_of(decision.records, base=image)
    assert [(p.leader, p.isr) for p in image.topics["a"].partitions] == [
        (NO_LEADER, nodes(1, 2, 3)),
        (NO_LEADER, nodes(2, 3, 1)),
    ]
