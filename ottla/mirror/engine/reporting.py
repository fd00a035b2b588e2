"""Writes a process's reports into the progress topic (`reports`)."""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ottla.client.errors import ClientError
from ottla.client.types import TopicPartition
from ottla.mirror.core.progress import PROGRESS_TOPIC
from ottla.mirror.engine.plain_writer import write_records
from ottla.mirror.engine.reports import INTERVAL_S, Reporter
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.troubles import Troubles

if TYPE_CHECKING:
    from ottla.mirror.engine.copier import PartitionCopier

logger = logging.getLogger("ottla.mirror")

_FAREWELL_S: Final = 2.0


class Reporting:
    """Of one flow."""

    def __init__(
        self,
        reporter: Reporter,
        target: Side,
        copiers: "Mapping[TopicPartition, PartitionCopier]",
        troubles: Troubles,
    ) -> None:
        self._reporter = reporter
        self._target = target
        self._copiers, self._troubles = copiers, troubles
        self._has_said = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="ottla-mirror-reports")

    async def close(self) -> None:
        """Take back what was said: the process ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._has_said:
            try:
                async with asyncio.timeout(_FAREWELL_S):
                    await write_records(self._target, PROGRESS_TOPIC, [(self._reporter.key, None)])
            except (ClientError, TimeoutError) as error:
                logger.debug("the last report stays: %s", error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            value = self._reporter.report(self._copiers, self._troubles.all())
            try:
                await write_records(self._target, PROGRESS_TOPIC, [(self._reporter.key, value)])
                self._has_said = True
                self._troubles.keep("reports", {})
            except ClientError as error:
                self._troubles.keep("reports", {"": f"no report for `ottla mirror status` is written: {error}"})
