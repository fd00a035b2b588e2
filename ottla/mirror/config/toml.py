"""A mirror's TOML file into the names of `mm2.properties`.

    [clusters.primary]
    bootstrap_servers = ["one:9092", "two:9092"]

    [flows."primary->backup"]      # a flow that stands here is enabled, unless it says otherwise
    topics = ["orders", "payments.*"]

    [defaults]                     # for all flows
    sync_group_offsets_enabled = true

Names are MM2's, with underscores for dots and hyphens; `consumer`, `producer` and `admin` are tables of Kafka's names.
"""

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ottla.core.errors import ConfigError
from ottla.mirror.config.security import SECURITY_NAMES
from ottla.mirror.config.settings import FLOW_SETTINGS, NOT_SUPPORTED, WITHOUT_EFFECT

_CLUSTER_NAMES: Final = ("bootstrap.servers", "ottla.protocol")
_CLIENTS: Final = ("consumer", "producer", "admin")


def _by_toml_name(names: Iterable[str]) -> dict[str, str]:
    """Names by how they are written in TOML; of `ottla.x`, plain `x` will do."""
    found = {}
    for name in names:
        written = name.replace(".", "_").replace("-", "_")
        found[written] = name
        found.setdefault(written.removeprefix("ottla_"), name)
    return found


_NAMES: Final = _by_toml_name((*FLOW_SETTINGS, *SECURITY_NAMES, *_CLUSTER_NAMES, *NOT_SUPPORTED, *WITHOUT_EFFECT))


def parse_toml(text: str) -> dict[str, str]:
    """Names and values for `build.build_config`; ConfigError when it is no TOML, or has other tables."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"no TOML: {error}") from None
    if unknown := set(document) - {"clusters", "flows", "defaults"}:
        raise ConfigError(
            f"{', '.join(sorted(unknown))}: the tables of a mirror are [clusters], [flows] and [defaults]"
        )
    clusters = _table(document.get("clusters", {}), "clusters")
    values = {"clusters": ",".join(clusters)}
    for alias, table in clusters.items():
        _flatten(f"{alias}.", _table(table, f"clusters.{alias}"), values)
    for flow, table in _table(document.get("flows", {}), "flows").items():
        if "->" not in flow:
            raise ConfigError(f'[flows."{flow}"]: a flow is called "source->target"')
        values[f"{flow}.enabled"] = "true"
        _flatten(f"{flow}.", _table(table, f"flows.{flow}"), values)
    _flatten("", _table(document.get("defaults", {}), "defaults"), values)
    return values


def _table(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a table: [{name}]")
    return value


def _flatten(prefix: str, table: Mapping[str, Any], values: dict[str, str]) -> None:
    for written, value in table.items():
        if written in _CLIENTS:
            for name, setting in _table(value, prefix + written).items():
                values[f"{prefix}{written}.{name.replace('_', '.')}"] = _text(setting, prefix + written + "." + name)
        else:
            values[prefix + _NAMES.get(written, written)] = _text(value, prefix + written)


def _text(value: object, name: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item, name) for item in value)
    if isinstance(value, str | int):
        return str(value)
    raise ConfigError(f"{name}: write a text, a number, true, false, or a list of texts")
