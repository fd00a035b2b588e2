"""The decision on a cluster's first records: the defaults that it keeps however many nodes it will have.

Founded with three nodes or more, topics get three replicas, two of which must be in sync; alone, a node has Kafka's
defaults and writes nothing. These are defaults: a node's configuration, and what is altered later, come before them.
They do not follow the number of brokers, because a node that joins must not make writes to existing topics fail.
"""

from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.v1 import metadata_pb2 as pb

REPLICATION_FACTOR: Final = 3
MIN_ISR: Final = 2


def found_cluster(image: MetadataImage, nodes: int) -> Decision[bool]:
    """Once, before the first broker registers; afterwards nothing. The result: whether something was written."""
    if nodes < REPLICATION_FACTOR or image.last_broker_epoch or image.default_configs:
        return Decision(False)
    defaults = {
        "default.replication.factor": REPLICATION_FACTOR,
        "min.insync.replicas": MIN_ISR,
        "offsets.topic.replication.factor": REPLICATION_FACTOR,
    }
    return Decision(
        True,
        [
            pb.MetadataRecord(default_config=pb.DefaultConfigRecord(name=name, value=str(value)))
            for name, value in defaults.items()
        ],
    )
