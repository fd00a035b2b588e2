"""The states of groups and transactions that `--state` takes, under the names that the protocol shows."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ottla.core.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

# Of classic groups and of KIP-848's.
GROUP_STATES = ("Empty", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Stable", "Dead")
OPEN_TRANSACTION_STATES = ("Ongoing", "PrepareCommit", "PrepareAbort")
TRANSACTION_STATES = ("Empty", *OPEN_TRANSACTION_STATES, "CompleteCommit", "CompleteAbort", "Dead")


def state_option(states: Sequence[str], words: str) -> Callable[[F], F]:
    """`--state`, in any case; it may be repeated, and refuses what no group or transaction can be in."""
    names = {state.casefold(): state for state in states}

    def spelled(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        for state in given:
            if state.casefold() not in names:
                raise ConfigError(f"--state {state}: there is no such state, only {', '.join(states)}")
        return tuple(names[state.casefold()] for state in given)

    return click.option("--state", "states", multiple=True, metavar="STATE", callback=spelled, help=words)
