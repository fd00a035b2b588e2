"""The client libraries behind one port, so that each workload is written once.

`open_library` gives one: `ottla` (our own client, gRPC), `confluent` (librdkafka) or `aiokafka`. The latter two are the
extra `ottla[chaos]`. Settings are those of an impatient user: retries come soon, so that gaps are the cluster's.
"""

from importlib import import_module
from typing import Final

from ottla.core.errors import ConfigError
from ottla.testing.chaos.clients.port import Address, Library

LIBRARIES: Final = ("ottla", "confluent", "aiokafka")


def open_library(name: str, address: Address) -> Library:
    """The library of that name, for the cluster at that address; raises ConfigError when it is not installed."""
    if name not in LIBRARIES:
        raise ConfigError(f"client {name!r} is none of {', '.join(LIBRARIES)}")
    try:
        module = import_module(f"ottla.testing.chaos.clients.{name}_library")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ottla"):
            raise
        raise ConfigError(
            f"the client {name!r} needs {error.name}, which is not installed: pip install 'ottla[chaos]'"
        ) from error
    library: Library = module.open_library(address)
    return library
