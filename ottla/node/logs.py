"""Log lines on standard error: for people, or JSON, one object a line."""

import logging
import sys
from collections.abc import MutableMapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, format_: str, node_id: int | None = None) -> None:
    """Set up structlog for this process; lines of libraries that use `logging` go the same way.

    Each line names the node, as several may write to one file (`ottla up --detach`).
    """
    structlog = _lean_structlog()
    last: Processor = structlog.processors.JSONRenderer() if format_ == "json" else render
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *(() if node_id is None else (partial(_name_node, node_id),)),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_StructlogFormatter([*structlog.get_config()["processors"][1:]]))
    logging.basicConfig(level=max(_LEVELS[level], logging.WARNING), handlers=[handler])


def _name_node(node_id: int, _: object, __: str, event: "EventDict") -> "EventDict":
    event.setdefault("node", node_id)
    return event


def render(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """`time level event key=value …`, an exception's traceback below."""
    exception = event.pop("exception", None)
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    pairs = (f"{key}={value if _is_plain(value) else repr(value)}" for key, value in event.items())
    line = " ".join([head, *pairs])
    return f"{line}\n{exception}" if exception else line


def _is_plain(value: object) -> bool:
    return not isinstance(value, str) or bool(value and " " not in value and value.isprintable())


class _StructlogFormatter(logging.Formatter):
    """Gives lines of `logging` the form of ours."""

    def __init__(self, processors: "list[Processor]") -> None:
        super().__init__()
        self._processors = processors

    def format(self, record: logging.LogRecord) -> str:
        event: Any = {"event": record.getMessage(), "logger": record.name, "exc_info": record.exc_info}
        for processor in self._processors:
            event = processor(None, record.levelname.lower(), event)
        return str(event)


def _lean_structlog() -> Any:
    """Structlog without rich, which it loads for a console renderer that we do not use: 40 ms and 5 MiB of a node."""
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # what makes an import of it fail
        try:
            return import_module("structlog")
        finally:
            del sys.modules["rich"]
    return import_module("structlog")
