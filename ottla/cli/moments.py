"""Times on the command line."""

from datetime import UTC, datetime


def moment_ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without a zone, of this machine's. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.astimezone()  # the time of this machine, as people mean it
    return int(moment.astimezone(UTC).timestamp() * 1000)
