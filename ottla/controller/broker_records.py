"""Brokers as records: how a registration, and a broker in the image, are written down."""

from ottla.controller.image import BrokerImage, Endpoint
from ottla.controller.requests import BrokerRegistration
from ottla.core.types import ZERO_UUID, NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb


def registration_record(
    registration: BrokerRegistration, *, epoch: int = 0, fenced: bool = False, in_controlled_shutdown: bool = False
) -> pb.RegisterBrokerRecord:
    """A registration as it is committed; without an epoch also as it is asked for."""
    return pb.RegisterBrokerRecord(
        broker_id=registration.broker_id,
        incarnation_id=registration.incarnation_id,
        broker_epoch=epoch,
        rack=registration.rack or "",
        endpoints=[
            pb.BrokerEndpoint(listener=name, host=one.host, port=one.port)
            for name, one in registration.listeners.items()
        ],
        grpc_host=registration.grpc.host if registration.grpc else "",
        grpc_port=registration.grpc.port if registration.grpc else 0,
        directory_id=b"" if registration.directory_id == ZERO_UUID else registration.directory_id,
        fenced=fenced,
        in_controlled_shutdown=in_controlled_shutdown,
        replication_host=registration.replication.host if registration.replication else "",
        replication_port=registration.replication.port if registration.replication else 0,
        internal_host=registration.internal.host if registration.internal else "",
        internal_port=registration.internal.port if registration.internal else 0,
        boot_id=registration.boot_id,
        features=[
            pb.FeatureRange(name=name, lowest=lowest, highest=highest)
            for name, (lowest, highest) in registration.features.items()
        ],
        previous_broker_epoch=registration.previous_broker_epoch,
    )


def registration_of(record: pb.RegisterBrokerRecord) -> BrokerRegistration:
    """The reverse, for whoever receives one."""
    return BrokerRegistration(
        broker_id=NodeId(record.broker_id),
        incarnation_id=Uuid(record.incarnation_id),
        listeners={one.listener: Endpoint(one.host, one.port) for one in record.endpoints},
        rack=record.rack or None,
        grpc=Endpoint(record.grpc_host, record.grpc_port) if record.grpc_host else None,
        directory_id=Uuid(record.directory_id or ZERO_UUID),
        replication=Endpoint(record.replication_host, record.replication_port) if record.replication_host else None,
        internal=Endpoint(record.internal_host, record.internal_port) if record.internal_host else None,
        boot_id=record.boot_id,
        features={one.name: (one.lowest, one.highest) for one in record.features},
        previous_broker_epoch=record.previous_broker_epoch,
    )


def broker_of(record: pb.RegisterBrokerRecord) -> BrokerImage:
    """The broker in the image."""
    registration = registration_of(record)
    return BrokerImage(
        id=registration.broker_id,
        epoch=record.broker_epoch,
        incarnation_id=registration.incarnation_id,
        listeners=registration.listeners,
        rack=registration.rack,
        grpc=registration.grpc,
        fenced=record.fenced,
        in_controlled_shutdown=record.in_controlled_shutdown,
        directory_id=registration.directory_id,
        replication=registration.replication,
        internal=registration.internal,
        boot_id=registration.boot_id,
        features=registration.features,
    )


def broker_record(broker: BrokerImage) -> pb.MetadataRecord:
    """A broker of the image, in a snapshot."""
    registration = BrokerRegistration(
        broker_id=broker.id,
        incarnation_id=broker.incarnation_id,
        listeners=broker.listeners,
        rack=broker.rack,
        grpc=broker.grpc,
        directory_id=broker.directory_id,
        replication=broker.replication,
        internal=broker.internal,
        boot_id=broker.boot_id,
        features=broker.features,
    )
    record = registration_record(
        registration,
        epoch=broker.epoch,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
    )
    return pb.MetadataRecord(register_broker=record)


def broker_change(
    broker_id: NodeId,
    *,
    fenced: bool | None = None,
    in_controlled_shutdown: bool | None = None,
    directory_id: Uuid | None = None,
) -> pb.MetadataRecord:
    """What changes of a registered broker."""
    return pb.MetadataRecord(
        broker_change=pb.BrokerChangeRecord(
            broker_id=broker_id,
            fenced=fenced,
            in_controlled_shutdown=in_controlled_shutdown,
            directory_id=b"" if directory_id == ZERO_UUID else directory_id,
        )
    )
