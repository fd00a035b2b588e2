"""The decision on a broker that has started."""

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.controller.requests import BrokerRegistration
from ottla.v1 import metadata_pb2 as pb


def register_broker(image: MetadataImage, registration: BrokerRegistration) -> Decision[int]:
    """Registers it under a new broker epoch, and raises the leader epoch of whatever it leads.

    The same incarnation may register again, e.g. when the first answer was lost; its leaderships then stand.
    """
    known = image.brokers.get(registration.broker_id)
    again = known is not None and known.incarnation_id == registration.incarnation_id
    epoch = max((broker.epoch for broker in image.brokers.values()), default=0) + 1
    record = pb.RegisterBrokerRecord(
        broker_id=registration.broker_id,
        incarnation_id=registration.incarnation_id,
        broker_epoch=epoch,
        rack=registration.rack or "",
        endpoints=[
            pb.BrokerEndpoint(listener=listener, host=endpoint.host, port=endpoint.port)
            for listener, endpoint in registration.listeners.items()
        ],
        grpc_host=registration.grpc.host if registration.grpc else "",
        grpc_port=registration.grpc.port if registration.grpc else 0,
    )
    records = [pb.MetadataRecord(register_broker=record)]
    if known is not None and not again:
        records.append(pb.MetadataRecord(renew_leaderships=pb.RenewLeadershipsRecord(broker_id=registration.broker_id)))
    return Decision(epoch, records)
