"""What the suite's fixtures import to run brokers: its source distribution leaves this file out.

The brokers are there already, so `ExternalService` has nothing to do. What would start one of its own fails.
"""


class ExternalService:
    """Brokers that somebody else started and stops."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def stop(self) -> None:
        """They run on."""

    def dump_logs(self) -> None:
        """Their logs are elsewhere."""


class SpawnedService:
    """A broker of the suite's own, which there is none of."""

    def __init__(self, args: list[str], env: dict[str, str]) -> None:
        raise RuntimeError("Only brokers that run already are tested; this test wants to start its own.")
