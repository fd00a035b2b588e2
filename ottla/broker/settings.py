"""What a broker is told by the node that it runs in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ottla.core.types import ZERO_UUID, NodeId, Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Fixed while the broker runs. `configs` holds what the node's configuration sets, under Kafka's names."""

    node_id: NodeId
    cluster_id: Uuid
    secret: bytes  # the cluster's
    incarnation_id: Uuid  # new at every start
    data_dir: str
    directory_id: Uuid = ZERO_UUID
    boot_id: str = ""  # of the operating system; empty: not known
    rack: str | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
