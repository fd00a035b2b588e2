"""The decision on a cluster's first records: levels of features, and the defaults that it keeps however it grows.

Features are finalised at the highest level that this version serves, as Kafka does when it formats (KIP-1022): clients
use transactions of version 2 only where they are told so. A cluster of an earlier version keeps its levels until
somebody raises them.

Founded with three nodes or more, topics get three replicas, two of which must be in sync; alone, a node has Kafka's
defaults. These are defaults: a node's configuration, and what is altered later, come before them. They do not follow
the number of brokers, because a node that joins must not make writes to existing topics fail.

Producer ids begin in a range of the cluster's own (`producer_ids`).
"""

from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.features import SUPPORTED_FEATURES
from ottla.controller.image import MetadataImage
from ottla.controller.producer_ids import first_producer_id
from ottla.core.types import Uuid
from ottla.v1 import metadata_pb2 as pb

REPLICATION_FACTOR: Final = 3
MIN_ISR: Final = 2
_NOBODY: Final = -1

_REPLICATED: Final = {
    "default.replication.factor": REPLICATION_FACTOR,
    "min.insync.replicas": MIN_ISR,
    "offsets.topic.replication.factor": REPLICATION_FACTOR,
    "transaction.state.log.replication.factor": REPLICATION_FACTOR,
    "transaction.state.log.min.isr": MIN_ISR,
}


def found_cluster(image: MetadataImage, nodes: int, cluster_id: Uuid) -> Decision[bool]:
    """Once, before the first broker registers; afterwards nothing. The result: whether something was written."""
    if image.last_broker_epoch or image.default_configs or image.features:
        return Decision(False)
    records = [
        pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name=name, level=highest))
        for name, (_, highest) in SUPPORTED_FEATURES.items()
    ]
    first_id = pb.ProducerIdsRecord(broker_id=_NOBODY, next_producer_id=first_producer_id(cluster_id))
    records.append(pb.MetadataRecord(producer_ids=first_id))
    if nodes >= REPLICATION_FACTOR:
        records += [
            pb.MetadataRecord(default_config=pb.DefaultConfigRecord(name=name, value=str(value)))
            for name, value in _REPLICATED.items()
        ]
    return Decision(True, records)
