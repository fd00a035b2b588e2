"""Every nemesis that there is, those of the package included."""

from collections.abc import Mapping
from typing import Final

from chaos.nemeses import clocks, disks, upgrade
from ottla.testing.chaos.catalog import NEMESES as OF_THE_PACKAGE
from ottla.testing.chaos.nemesis import Nemesis

NEMESES: Final[Mapping[str, type[Nemesis]]] = {
    **OF_THE_PACKAGE,
    **{
        kind.name: kind
        for kind in (
            disks.StalledDisk,
            disks.SlowSyncs,
            disks.WriteErrors,
            disks.ReadErrors,
            clocks.ClockJump,
            clocks.ClockSkew,
            upgrade.RollingUpgrade,
        )
    },
}
