"""What is wrong with a flow beside its partitions: topics and groups that are left alone, and work that is not shared.

Each round of whatever looks after them tells all that is wrong then. The log hears of it once, and when it is over;
`status` hears of it through the process's reports.
"""

import logging
from collections.abc import Mapping

logger = logging.getLogger("ottla.mirror")


class Troubles:
    """Of one flow in one process, by kind ("topic", "configs", "group", …) and name; reasons are for people."""

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self._found: dict[str, dict[str, str]] = {}

    def keep(self, kind: str, found: Mapping[str, str]) -> None:
        """Reasons by name: all that is wrong of this kind now."""
        before = self._found.get(kind, {})
        for name, reason in found.items():
            if before.get(name) != reason:
                logger.warning("%s: %s", self._flow, reason)
        for name in before.keys() - found.keys():
            logger.info("%s: no longer so: %s", self._flow, before[name])
        if found:
            self._found[kind] = dict(found)
        else:
            self._found.pop(kind, None)

    def all(self) -> dict[str, dict[str, str]]:
        """Reasons by kind and name."""
        return self._found
