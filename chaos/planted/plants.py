"""The simulator's planted bugs, as they are in a real node."""

from collections.abc import Iterator
from typing import Any, Final
from unittest.mock import patch

from ottla.coordinators.groups.rebalance import Rebalance
from tests.sim.cluster.planting import Plants
from tests.sim.cluster.plants import PLANTS as SIMULATED

PLANTS: Final = Plants(SIMULATED)


@PLANTS.plant("a partition is assigned to two members")
def two_owners() -> Iterator[None]:
    """Simulated members have a format of their own for assignments; to real ones go the bytes of one of them."""

    def spread(self: Rebalance, group: Any, assignments: dict[str, bytes], effects: Any) -> None:
        honest(self, group, dict.fromkeys(assignments, max(assignments.values(), key=len)), effects)

    honest = Rebalance.spread_assignment
    with patch.object(Rebalance, "spread_assignment", spread):
        yield
