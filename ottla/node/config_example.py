"""The configuration's fields as a commented TOML file and as a page of documentation."""

import json
import textwrap

from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.config_fields import ConfigField
from ottla.node.settings import BY_KAFKA_NAME, SETTINGS, Setting, Value

_HEAD = """\
# Configuration of one Ottla node. Every field stands here with its default; uncomment what you change.
# Precedence: flag (--set FIELD=VALUE), environment (OTTLA_FIELD), this file, default.
"""


def example_toml() -> str:
    """A file that says everything and changes nothing."""
    parts = [_HEAD, *map(_toml_field, SETTINGS), _kafka_toml()]
    return "\n".join(parts)


def toml_value(value: Value) -> str:
    """A value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def _toml_field(setting: Setting) -> str:
    words = f"{setting.doc} {_unit(setting)}Why: {setting.reason}".replace("`", "")
    comment = textwrap.fill(words, 116, initial_indent="# ", subsequent_indent="# ")
    return f"{comment}\n# {setting.name} = {toml_value(setting.default)}\n"


def _unit(setting: Setting) -> str:
    if setting.choices:
        return f"One of {', '.join(setting.choices)}. "
    return f"Unit: {setting.unit}. " if setting.unit else ""


def _kafka_toml() -> str:
    fields = [field for field in BROKER_CONFIGS.values() if field.name not in BY_KAFKA_NAME]
    head = "# Broker configs and topic defaults under Kafka's own names, in quotes.\n[kafka]\n"
    return "\n".join([head, *map(_kafka_field, sorted(fields, key=lambda field: field.name))])


def _kafka_field(field: ConfigField) -> str:
    unset = " Not set by default." if field.default is None else ""
    comment = textwrap.fill(
        f"{field.doc} Allowed: {field.allowed()}.{unset}", 116, initial_indent="# ", subsequent_indent="# "
    )
    value = json.dumps(field.default) if field.default is not None else "..."
    return f"{comment}\n# {json.dumps(field.name)} = {value}\n"
