"""The configuration's fields as a commented TOML file and as a page of documentation."""

import json
import textwrap

from ottla.node.settings import SETTINGS, Setting, Value

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
    return "# Broker configs and topic defaults under Kafka's own names, in quotes.\n[kafka]\n"
