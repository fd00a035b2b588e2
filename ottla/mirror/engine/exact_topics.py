"""Which topics an exact flow copies: by what both clusters say of them, each time anew (`core.exact.judge`)."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorTopic
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.exact import Found, Standing, judge
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import add_partitions, make_topics, mirror_source
from ottla.mirror.engine.troubles import Troubles

logger = logging.getLogger("ottla.mirror")

_AT_ONCE: Final = 500  # topics in one request
_SAID: Final = frozenset({Standing.REFUSED, Standing.PROMOTING, Standing.PROMOTED})


class ExactTopics:
    """Of one exact flow."""

    def __init__(self, flow: FlowConfig, source: Side, target: Side, troubles: Troubles) -> None:
        self._flow, self._source, self._target, self._troubles = flow, source, target, troubles
        self.found: dict[str, Found] = {}

    async def keep(self) -> dict[str, str]:
        """Make what is missing; the names of what is to be copied, as `topics.keep_topics`. Raises ClientError."""
        flow, source, target = self._flow, self._source, self._target
        found = await standings(flow, source, target)
        missing = {name: name for name, one in found.items() if one.standing is Standing.MISSING}
        refused = await make_topics(flow, source, target, missing)
        if missing:
            found |= await standings(flow, source, target, list(missing))
        for name, one in found.items():
            if one.standing in _SAID and self.found.get(name) != one:
                logger.warning("%s: %s is not copied: %s", flow.name, name, one.reason)
        self.found = found
        names = {name: name for name, one in found.items() if one.is_copied and name in target.topics}
        self._troubles.keep("topic", refused | await add_partitions(flow, source, target, names))
        return names


async def standings(
    flow: FlowConfig, source: Side, target: Side, names: Sequence[str] | None = None
) -> dict[str, Found]:
    """What each topic is to the flow; by default of all that it takes. Raises ClientError."""
    wanted = [name for name in source.topics if flow.takes_topic(name)] if names is None else names
    found: dict[str, Found] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        originals, copies = await asyncio.gather(mirror_topics(source, some), mirror_topics(target, some))
        for name in some:
            if name in originals and name in source.topics:
                found[name] = judge(mirror_source(source, name), originals[name], copies.get(name), target.cluster_id)
    return found


async def mirror_topics(side: Side, names: Sequence[str]) -> dict[str, MirrorTopic]:
    """What the topics' configs say, of those that exist. Raises ClientError; says so when it is no Ottla cluster."""
    try:
        return await side.transport.mirrors.describe(names) if names else {}
    except ClientError as error:
        if error.code is not ErrorCode.UNSUPPORTED_VERSION:
            raise
        raise ClientError(error.code, f"{side.alias} has no mirror topics, for it is not Ottla: {error}") from error
