"""A broker on simulated files, with a real quorum of one and real partitions; doors are left out."""

import asyncio
from collections.abc import Mapping
from random import Random

from ottla.adapters.clock import LoopClock
from ottla.adapters.network import AsyncioNetwork
from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.control.control import Control
from ottla.broker.settings import BrokerSettings
from ottla.controller.controller import Controller
from ottla.controller.image import Endpoint
from ottla.core.types import NodeId, Uuid
from ottla.partitions.manager import PartitionManager
from ottla.raft.transport import Alone
from ottla.testing.sim.files import SimFiles
from tests.unit.raft.disk import LoopDisk
from tests.unit.raft.one_voter import one_voter

NODE = NodeId(1)
CLUSTER = Uuid(b"the test cluster")
LISTENER = "PLAINTEXT"


async def start_broker(files: SimFiles | None = None, configs: Mapping[str, str] | None = None) -> Broker:
    disk = LoopDisk(files)
    random = Random(1)
    static = dict(configs or {})
    controller = Controller(NODE, random=random, static_configs=static)
    controller.attach(await one_voter(disk, controller, directory="metadata"))
    clock = LoopClock(asyncio.get_running_loop())
    control = Control(controller, Alone(), clock, random, node_id=NODE, cluster_id=CLUSTER, founders=1, session_ms=2000)
    partitions = PartitionManager(disk, clock)
    partitions.open()
    broker = Broker(
        BrokerSettings(
            node_id=NODE,
            cluster_id=CLUSTER,
            secret=b"secret",
            incarnation_id=Uuid(Random().randbytes(16)),
            data_dir="/data",
            rack="r1",
            configs=static,
        ),
        control=control,
        partitions=partitions,
        clock=clock,
        random=random,
        disk=disk,
        network=AsyncioNetwork(asyncio.get_running_loop()),
    )
    await broker.start({LISTENER: Endpoint("client.example", 9092), "INSIDE": Endpoint("10.0.0.1", 9093)})
    return broker


def context(version: int, listener: str = LISTENER) -> RequestContext:
    return RequestContext(listener=listener, api_version=version)
