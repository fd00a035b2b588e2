"""Faults on the processes of clients: killed, paused, or paused with a successor and then let loose as zombies."""

from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos.crew import Crew
from ottla.testing.chaos.needs import Need
from ottla.testing.chaos.nemesis import Fault
from ottla.testing.chaos.workloads.plan import Role


class ClientNemesis:
    """As `nemesis.Nemesis`, on a crew instead of a target."""

    name: ClassVar[str]
    description: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ()
    on: ClassVar[frozenset[str]] = frozenset({"ottla", "kafka"})

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._role: Role | None = None

    async def inject(self, random: Random) -> Fault:
        """Do it, once."""
        if not self.crew.workers:
            return Fault(name=self.name, detail="nobody: none of these workloads has clients that may be harmed")
        self._role = random.choice(self.crew.workers)
        return Fault(name=self.name, detail=self.harm(self._role))

    def harm(self, role: Role) -> str:
        """To that one; what it was."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Clients need nobody."""

    async def heal(self) -> None:
        """Take it back."""
        if self._role is not None:
            self.mend(self._role)
            self._role = None

    def mend(self, role: Role) -> None:
        """As it was before."""

    def cleanup(self) -> None:
        """The crew ends its processes itself."""


class KillClient(ClientNemesis):
    """A client that dies with its transactions open; another one comes with its name."""

    name = "kill-client"
    description = "kill -9 a client process in the middle of its transactions; its successor has the same ids"

    def harm(self, role: Role) -> str:
        self.crew.kill(role)
        return f"clients {role}"


class PauseClient(ClientNemesis):
    """A client that stops and goes on, perhaps after its transaction has timed out."""

    name = "pause-client"
    description = "SIGSTOP a client process, which goes on later with what it had open"

    def harm(self, role: Role) -> str:
        self.crew.pause(role)
        return f"clients {role}"

    def mend(self, role: Role) -> None:
        self.crew.resume(role)


class ZombieClient(ClientNemesis):
    """A client that was replaced, and does not know it."""

    name = "zombie-client"
    description = "SIGSTOP a client process, begin a successor with its transactional ids, and let the first go on"

    def harm(self, role: Role) -> str:
        self.crew.end_zombies()
        self.crew.haunt(role)
        return f"clients {role}"

    def mend(self, role: Role) -> None:
        self.crew.wake_zombies()  # and at the next one, or at the end, it is killed


CLIENT_NEMESES: Final[dict[str, type[ClientNemesis]]] = {
    one.name: one for one in (KillClient, PauseClient, ZombieClient)
}
