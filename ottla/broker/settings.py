"""What a broker is told by the node that it runs in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ottla.core.types import NodeId, Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Fixed while the broker runs. `configs` holds what the node's configuration sets, under Kafka's names."""

    node_id: NodeId
    cluster_id: str
    incarnation_id: Uuid  # new at every start
    data_dir: str
    rack: str | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
