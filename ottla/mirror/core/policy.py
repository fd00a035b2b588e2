"""How topics are called on the target, and what is read back from such a name (MirrorMaker 2's replication policies).

A policy of the user's own is a subclass of `ReplicationPolicy`, named by its dotted path in `replication.policy.class`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ottla.core.errors import ConfigError

HEARTBEATS: Final = "heartbeats"
DEFAULT_SEPARATOR: Final = "."


class ReplicationPolicy(ABC):
    """The names of one flow. Made with the alias of the flow's source cluster and all settings of the flow."""

    def __init__(self, source_alias: str, settings: Mapping[str, str]) -> None:
        self.source_alias = source_alias
        self.separator = settings.get("replication.policy.separator", DEFAULT_SEPARATOR)
        own = settings.get("replication.policy.internal.topic.separator.enabled", "true").lower() != "false"
        self._internal_separator = self.separator if own else DEFAULT_SEPARATOR

    @abstractmethod
    def format_remote_topic(self, source_alias: str, topic: str) -> str:
        """What `topic` of the cluster `source_alias` is called on the target."""

    @abstractmethod
    def topic_source(self, topic: str) -> str | None:
        """The alias of the cluster that a target's topic was copied from; None: it is no copy."""

    @abstractmethod
    def upstream_topic(self, topic: str) -> str | None:
        """What a target's topic is called in the cluster that it was copied from; None: it is no copy."""

    @property
    def keeps_names(self) -> bool:
        """Whether copies bear the originals' names, so that a name does not tell a copy from an original."""
        return self.format_remote_topic(self.source_alias, "t") == "t"

    def original_topic(self, topic: str) -> str:
        """What the topic is called in the cluster where its first copy was made from."""
        upstream = self.upstream_topic(topic)
        return topic if upstream is None or upstream == topic else self.original_topic(upstream)

    def is_cycle(self, topic: str, target_alias: str) -> bool:
        """Whether a source's topic came from the target, directly or through others, as far as its name tells."""
        seen = set()
        source = self.topic_source(topic)
        while source is not None and source not in seen:
            if source == target_alias:
                return True
            seen.add(source)
            upstream = self.upstream_topic(topic)
            if upstream is None or upstream == topic:
                return False
            topic, source = upstream, self.topic_source(upstream)
        return False

    def heartbeats_topic(self) -> str:
        """Where heartbeats are written on each cluster."""
        return HEARTBEATS

    def offset_syncs_topic(self, alias: str) -> str:
        """MM2's topic of (upstream offset, downstream offset) pairs; `alias` is that of the cluster without it."""
        dot = self._internal_separator
        return f"mm2-offset-syncs{dot}{alias}{dot}internal"

    def checkpoints_topic(self, alias: str) -> str:
        """On the target: the groups' offsets, translated from the cluster `alias`."""
        dot = self._internal_separator
        return f"{alias}{dot}checkpoints{dot}internal"

    def is_heartbeats_topic(self, topic: str) -> bool:
        """Whether the topic is that of heartbeats, or a copy of one."""
        return self.original_topic(topic) == self.heartbeats_topic()

    def is_checkpoints_topic(self, topic: str) -> bool:
        """Whether the topic holds checkpoints of some cluster."""
        return topic.endswith(f"{self._internal_separator}checkpoints{self._internal_separator}internal")

    def is_internal_topic(self, topic: str) -> bool:
        """Whether the topic belongs to Kafka, Connect or a mirror; such topics are never copied."""
        return topic.startswith(("__", ".")) or topic.endswith(
            ("-internal", ".internal", f"{self._internal_separator}internal")
        )


class DefaultReplicationPolicy(ReplicationPolicy):
    """`<alias><separator><topic>`: a copy tells where it came from, over any number of hops."""

    def format_remote_topic(self, source_alias: str, topic: str) -> str:
        """The alias in front."""
        return f"{source_alias}{self.separator}{topic}"

    def topic_source(self, topic: str) -> str | None:
        """What stands before the first separator. An original whose name has one looks like a copy, as in MM2."""
        alias, separator, rest = topic.partition(self.separator)
        return alias if separator and rest else None

    def upstream_topic(self, topic: str) -> str | None:
        """What stands after it."""
        _, separator, rest = topic.partition(self.separator)
        return rest if separator and rest else None


class IdentityReplicationPolicy(DefaultReplicationPolicy):
    """The same name on both sides, but for heartbeats, which keep the alias so that hops can be counted.

    Here loops are kept out by the provenance of the records alone (`provenance`).
    """

    def format_remote_topic(self, source_alias: str, topic: str) -> str:
        """The name itself."""
        return super().format_remote_topic(source_alias, topic) if self._is_heartbeat(topic) else topic

    def topic_source(self, topic: str) -> str | None:
        """Any topic may be a copy: the flow's source."""
        return super().topic_source(topic) if self._is_heartbeat(topic) else self.source_alias

    def upstream_topic(self, topic: str) -> str | None:
        """The name itself."""
        return super().upstream_topic(topic) if self._is_heartbeat(topic) else topic

    def is_cycle(self, topic: str, target_alias: str) -> bool:
        """Names tell it of heartbeats only."""
        return self._is_heartbeat(topic) and super().is_cycle(topic, target_alias)

    def _is_heartbeat(self, topic: str) -> bool:
        return topic.endswith(self.heartbeats_topic())


_JAVA: Final = "org.apache.kafka.connect.mirror."
_BY_NAME: Final[Mapping[str, type[ReplicationPolicy]]] = {
    "default": DefaultReplicationPolicy,
    "identity": IdentityReplicationPolicy,
    "DefaultReplicationPolicy": DefaultReplicationPolicy,
    "IdentityReplicationPolicy": IdentityReplicationPolicy,
}


def make_policy(name: str, source_alias: str, settings: Mapping[str, str]) -> ReplicationPolicy:
    """The policy of this class: "default", "identity", MM2's class names, or a dotted path in Python.

    ConfigError when there is no such class.
    """
    known = _BY_NAME.get(name.removeprefix(_JAVA))
    if known is not None:
        return known(source_alias, settings)
    module_name, _, class_name = name.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module_name), class_name) if module_name else None
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"replication.policy.class {name!r} cannot be imported ({error}): write default, identity or the dotted "
            "path of a Python class; a policy in Java is to be written again in Python"
        ) from error
    if not (isinstance(found, type) and issubclass(found, ReplicationPolicy)):
        raise ConfigError(
            f"replication.policy.class {name!r} is no subclass of ottla.mirror.core.policy.ReplicationPolicy"
        )
    return found(source_alias, settings)
