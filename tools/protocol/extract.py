"""Reads the message definitions out of Apache Kafka's jars and writes them down in the project's own short form.

Run as ``python -m tools.protocol.extract JAR...``. Descriptions and comments are left behind; what stays of a field is
what stands on the wire. The result is `definitions.json`, from which `tools.protocol.generate` works without any jar.
"""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

DEFINITIONS = Path(__file__).with_name("definitions.json")
KINDS = ("request", "response", "header", "data", "coordinator-key", "coordinator-value")

_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_INTEGER = re.compile(r"u?int(8|16|32|64)")


def main(arguments: list[str]) -> int:
    if not arguments:
        print("usage: python -m tools.protocol.extract JAR...", file=sys.stderr)
        return 2
    messages = [message for jar in arguments for message in read_jar(Path(jar))]
    messages.sort(key=lambda message: message["name"])
    DEFINITIONS.write_text(render(messages))
    return 0


def read_jar(path: Path) -> list[dict[str, Any]]:
    """The short form of every message of a jar that has a version left."""
    with zipfile.ZipFile(path) as jar:
        names = sorted(name for name in jar.namelist() if re.fullmatch(r"common/message/\w+\.json", name))
        raw = [json.loads(_COMMENT.sub("", jar.read(name).decode())) for name in names]
    return [shorten(message) for message in raw if message["type"] in KINDS and message["validVersions"] != "none"]


def shorten(message: dict[str, Any]) -> dict[str, Any]:
    """A definition without its prose: versions as [first, last], structs in one flat mapping, defaults as values."""
    first, last = parse_versions(message["validVersions"], 0, None)
    structs: dict[str, list[dict[str, Any]]] = {}
    short: dict[str, Any] = {"name": message["name"], "kind": message["type"]}
    if "apiKey" in message:
        short["key"] = message["apiKey"]
    short["versions"] = [first, last]
    if message["flexibleVersions"] != "none":
        flexible = parse_versions(message["flexibleVersions"], first, last)
        if flexible[1] != last:
            raise ValueError(f"{message['name']}: the newest version is not flexible")
        short["flexible"] = flexible[0]
    for struct in message.get("commonStructs", []):
        structs[struct["name"]] = shorten_fields(struct["fields"], first, last, structs)
    short["fields"] = shorten_fields(message["fields"], first, last, structs)
    short["structs"] = structs
    return short


def shorten_fields(
    fields: list[dict[str, Any]], first: int, last: int, structs: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    shortened = []
    for field in fields:
        versions = parse_versions(field["versions"] if "versions" in field else field["taggedVersions"], first, last)
        if "fields" in field:
            structs[field["type"].removeprefix("[]")] = shorten_fields(field["fields"], first, last, structs)
        if versions[0] > versions[1]:
            continue  # the field's versions were all removed
        short = {"name": field["name"], "type": field["type"], "versions": list(versions)}
        nullable = parse_versions(field.get("nullableVersions", "none"), first, last)
        if nullable[0] <= nullable[1]:
            short["nullable"] = list(nullable)
        if "tag" in field:
            short["tag"] = field["tag"]
            if parse_versions(field["taggedVersions"], first, last) != versions:
                raise ValueError(f"{field['name']}: tagged in some of its versions only")
        if field.get("default") is not None:  # the text "null" is a default, a null of JSON is none given
            short["default"] = parse_default(field["type"], field["default"])
        if field.get("flexibleVersions") == "none":
            short["classic"] = True  # the client id, which a broker must find in a header of any version
        shortened.append(short)
    return shortened


def parse_versions(text: str, first: int, last: int | None) -> tuple[int, int]:
    """``"3+"``, ``"2-5"``, ``"4"`` or ``"none"`` within the message's own versions; empty ranges have first > last."""
    if text == "none":
        return (1, 0)
    low, separator, high = re.fullmatch(r"(\d+)([+-]?)(\d*)", text).groups()  # type: ignore[union-attr]
    end = int(high or low) if separator != "+" else sys.maxsize
    return max(int(low), first), end if last is None else min(end, last)


def parse_default(kind: str, default: Any) -> Any:
    if default == "null":
        return None
    if _INTEGER.fullmatch(kind):
        return int(default, 0) if isinstance(default, str) else default
    if kind == "bool":
        return default in (True, "true")
    if kind == "float64":
        return float(default)
    if kind == "string":
        return default
    raise ValueError(f"a default for a field of type {kind}: {default!r}")


def render(messages: list[dict[str, Any]]) -> str:
    """One line for each field, so that a change of the protocol reads well as a difference."""
    lines = ["["]
    for number, message in enumerate(messages):
        head = {key: value for key, value in message.items() if key not in ("fields", "structs")}
        lines.append(" {" + json.dumps(head)[1:-1] + ",")
        lines.append('  "fields": ' + _render_fields(message["fields"]) + ",")
        structs = [
            f"   {json.dumps(name)}: {_render_fields(fields)}"
            for name, fields in message["structs"].items()
            if _is_used(name, message)
        ]
        lines.append('  "structs": {' + ("\n" + ",\n".join(structs) if structs else "") + "}")
        lines.append(" }" + ("," if number + 1 < len(messages) else ""))
    return "\n".join([*lines, "]", ""])


def _render_fields(fields: list[dict[str, Any]]) -> str:
    return "[" + ",".join("\n    " + json.dumps(field) for field in fields) + "]"


def _is_used(struct: str, message: dict[str, Any]) -> bool:
    every = [message["fields"], *(fields for name, fields in message["structs"].items() if name != struct)]
    return any(field["type"].removeprefix("[]") == struct for fields in every for field in fields)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
