"""One cluster as a mirror sees it: its connections, its topics by name, its coordinators."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from ottla.client.backoff import Backoff
from ottla.client.config import ConnectionConfig
from ottla.client.connect import open_transport
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import OffsetAndTimestamp, TopicDescription, TopicPartition
from ottla.core.errors import ConfigError
from ottla.mirror.config import ClusterConfig
from ottla.mirror.core.advice import DENIED, denial
from ottla.mirror.engine.outages import Outages

logger = logging.getLogger("ottla.mirror")

T = TypeVar("T")

REQUEST_TIMEOUT_MS: Final = 15_000
_REFRESH_GAP_S: Final = 0.05  # who asks for fresh metadata in a tight loop is answered this often


class ClusterUnreachable(ClientError):
    """A cluster of the configuration does not answer; `hint` says what may be changed."""

    def __init__(self, alias: str, connection: ConnectionConfig, cause: ClientError) -> None:
        super().__init__(cause.code, f"cluster {alias}: {cause.message or cause.code.name}", retriable=cause.retriable)
        port = "Kafka ports" if connection.protocol == "kafka" else "gRPC ports"
        servers = ", ".join(connection.addresses())
        self.hint = (
            f"Is {alias} running, and are {servers} {port} of its nodes that can be reached from here? They are "
            f"bootstrap_servers of [clusters.{alias}], or {alias}.bootstrap.servers in properties. A cluster that "
            f'speaks TLS wants security_protocol = "SSL" and ssl_cafile there.'
        )


class Side:
    """Open while the mirror runs. Calls raise ClientError."""

    def __init__(self, config: ClusterConfig, client_id: str) -> None:
        self.alias = config.alias
        self.connection = connection_of(config, client_id)
        self.transport = open_transport(self.connection)
        self.coordinators = Coordinators(self.transport, self.connection)
        self.cluster_id = ""
        self.topics: dict[str, TopicDescription] = {}
        self.outages = Outages(config.alias)
        self._backoff = Backoff(50, 1_000)
        self._refreshing: asyncio.Task[None] | None = None
        self._lookups: dict[tuple[int, bool], dict[TopicPartition, asyncio.Future[int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Reach the cluster, and learn what topics it has. Raises ClusterUnreachable."""
        try:
            self.cluster_id = (await self.transport.describe_cluster()).cluster_id
            await self.refresh()
        except ClientError as error:
            raise ClusterUnreachable(self.alias, self.connection, error) from error

    async def close(self) -> None:
        """Close the connections."""
        self.outages.close()
        tasks = {*self._tasks, *(() if self._refreshing is None else (self._refreshing,))}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.transport.close()

    @property
    def principal(self) -> str:
        """As whom the cluster knows us, in the words of its ACLs."""
        certificate = self.connection.ssl_certfile
        return "User:ANONYMOUS" if certificate is None else f"the principal of {certificate}"

    def explained(self, error: ClientError, right: str, name: str = "") -> ClientError:
        """The error; when it tells of a right that is missing here, with what is to be allowed.

        `right`: what the request needs; `name`: of the group or transactional id, or of a topic that is not in it.
        """
        if error.code not in DENIED:
            return error
        is_of_topic = error.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        resource = error.topic or name if is_of_topic else name
        message = denial(error.code, self.alias, self.principal, right, resource)
        return ClientError(error.code, message, topic=error.topic, partition=error.partition, retriable=False)

    async def refresh(self) -> None:
        """Ask for all topics anew; whoever asks meanwhile gets the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name=f"ottla-mirror-metadata-{self.alias}")
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        self.transport.ask_elsewhere()
        if self.connection.protocol == "grpc":  # there, descriptions of topics do not tell where the nodes are
            await self.transport.describe_cluster()
        descriptions, _ = await self.transport.describe_topics(None, allow_auto_create=False)
        self.topics = {one.name: newer_leaders(self.topics.get(one.name), one) for one in descriptions}
        await asyncio.sleep(_REFRESH_GAP_S)

    def leader(self, partition: TopicPartition) -> tuple[int, int]:
        """The partition's leader and its epoch; (-1, -1) when none is known."""
        topic = self.topics.get(partition.topic)
        if topic is None or partition.partition >= len(topic.partitions):
            return -1, -1
        found = topic.partitions[partition.partition]
        return found.leader_id, found.leader_epoch

    def topic_id(self, topic: str) -> str | None:
        """The topic's id, as far as it is known."""
        found = self.topics.get(topic)
        return None if found is None else found.topic_id

    async def offset_at(self, partition: TopicPartition, timestamp: int, *, read_committed: bool) -> int:
        """The offset of the first record with this time or a later one; -1 latest, -2 earliest.

        What is asked for in one turn of the loop goes in one request to each leader.
        """

        async def ask() -> int:
            waiting = self._lookups.get((timestamp, read_committed))
            if waiting is None:
                waiting = self._lookups[timestamp, read_committed] = {}
                task = asyncio.create_task(self._look_up(timestamp, read_committed), name="ottla-mirror-offsets")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if partition not in waiting:
                waiting[partition] = asyncio.get_running_loop().create_future()
            return await asyncio.shield(waiting[partition])

        return await self.patiently(ask)

    async def _look_up(self, timestamp: int, read_committed: bool) -> None:
        await asyncio.sleep(0)
        waiting = self._lookups.pop((timestamp, read_committed))
        by_node: dict[int, list[TopicPartition]] = {}
        for partition in waiting:
            by_node.setdefault(self.leader(partition)[0], []).append(partition)
        await asyncio.gather(
            *(
                self._look_up_at(node_id, {one: waiting[one] for one in partitions}, timestamp, read_committed)
                for node_id, partitions in by_node.items()
            )
        )

    async def _look_up_at(
        self, node_id: int, waiting: dict[TopicPartition, asyncio.Future[int]], timestamp: int, read_committed: bool
    ) -> None:
        found: dict[TopicPartition, OffsetAndTimestamp | ClientError] = {}
        failure = ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known")
        if node_id >= 0:
            try:
                found = await self.transport.list_offsets(
                    node_id, dict.fromkeys(waiting, timestamp), read_committed=read_committed
                )
            except ClientError as error:
                failure = error
        for partition, future in waiting.items():
            result = found.get(partition, failure)
            if future.cancelled():
                continue
            if isinstance(result, ClientError):
                future.set_exception(self.explained(result.at(*partition), "Describe"))
                future.exception()  # seen: whoever asked may be gone
            else:
                future.set_result(result.offset)

    async def patiently(self, call: Callable[[], Awaitable[T]], timeout_s: float = 10.0) -> T:
        """A call that may be repeated: until it succeeds, while its errors are retriable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        attempts = 0
        while True:
            try:
                return await call()
            except ClientError as error:
                attempts += 1
                delay = self._backoff.delay_ms(attempts) / 1000
                if not error.retriable or loop.time() + delay > deadline:
                    raise
                await asyncio.sleep(delay)
                await self._try_to_refresh()

    async def _try_to_refresh(self) -> None:
        try:
            await self.refresh()
        except ClientError as error:
            logger.debug("%s: %s", self.alias, error)


def newer_leaders(known: TopicDescription | None, told: TopicDescription) -> TopicDescription:
    """A description that does not fall back behind leaders that are known, as a node tells that lags.

    Who asks the nodes in turn would else send epochs that the leaders have left behind (KIP-320).
    """
    if known is None or known.topic_id != told.topic_id:
        return told
    before = {one.partition: one for one in known.partitions}
    return replace(
        told,
        partitions=tuple(
            before[one.partition]
            if one.partition in before and before[one.partition].leader_epoch > one.leader_epoch
            else one
            for one in told.partitions
        ),
    )


def connection_of(config: ClusterConfig, client_id: str) -> ConnectionConfig:
    """How the client reaches a cluster. Raises ConfigError for what it cannot do."""
    security = config.security
    if security.protocol.startswith("SASL"):
        raise ConfigError(
            f"{config.alias}.security.protocol = {security.protocol}: SASL is not there yet; use SSL with certificates"
        )
    if security.ssl_key_password is not None or not security.ssl_check_hostname:
        raise ConfigError(f"{config.alias}: encrypted keys and unchecked host names are not supported")
    connection = ConnectionConfig(
        bootstrap_servers=config.bootstrap_servers,
        protocol=config.protocol,
        client_id=client_id,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        security_protocol="SSL" if security.uses_tls else "PLAINTEXT",
        ssl_cafile=security.ssl_cafile,
        ssl_certfile=security.ssl_certfile,
        ssl_keyfile=security.ssl_keyfile,
    )
    connection.validate()
    return connection
