"""What a run ends with when a promise was broken."""


class Violation(Exception):
    """`invariant` is the name under which the promise is known; the message says who broke it, and how."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant, self.message = invariant, message

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        """Processes that run seeds hand it to the one that reports."""
        return type(self), (self.invariant, self.message)
