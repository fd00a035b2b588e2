"""Regular expressions of subscriptions, which the coordinator matches for its members (KIP-848, RE2/J's syntax).

Matching is RE2, whose time is linear: an expression comes from a client, and Python's own engine could be made to
run for hours by one. It is an extra (`pip install 'ottla[re2]'`); without it such subscriptions are refused.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Final

from ottla.core.errors import ApiError, ErrorCode

Matcher = Callable[[str], object]
"""Something true when the whole name matches."""

MISSING: Final = (
    "Subscriptions by regular expression need RE2, which is not installed on this broker. "
    "Install it with: pip install 'ottla[re2]'"
)


def compile_re2(pattern: str) -> Matcher:
    """Raises ApiError INVALID_REGULAR_EXPRESSION for what RE2 does not take, and when it is not installed."""
    try:
        re2: Any = import_module("re2")
    except ImportError:
        raise ApiError(ErrorCode.INVALID_REGULAR_EXPRESSION, MISSING) from None
    options = re2.Options()
    options.log_errors = False
    try:
        matcher: Matcher = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ApiError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {text}.",
        ) from None
    return matcher


class Expressions:
    """Compiled expressions, and what they match."""

    def __init__(self, compile_: Callable[[str], Matcher] = compile_re2) -> None:
        self._compile = compile_

    def check(self, pattern: str) -> None:
        """Raises ApiError INVALID_REGULAR_EXPRESSION."""
        self._compile(pattern)

    def resolve(self, pattern: str, names: Iterable[str]) -> frozenset[str]:
        """Those of the names that match as a whole. Raises ApiError as `check`."""
        matcher = self._compile(pattern)
        return frozenset(name for name in names if matcher(name))
