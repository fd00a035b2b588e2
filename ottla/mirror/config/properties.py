"""Java's properties files, as `java.util.Properties` reads them: what an `mm2.properties` is written in."""

from ottla.core.errors import ConfigError

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_SPACES = " \t\f"


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values; the last of equal keys counts. ConfigError for a broken Unicode escape."""
    found = {}
    for number, line in _logical_lines(text):
        key, rest = _split(line)
        try:
            found[_unescape(key)] = _unescape(rest)
        except ValueError:
            raise ConfigError(f"line {number}: a \\u is to be followed by four hexadecimal digits") from None
    return found


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    pending: tuple[int, str] | None = None
    for number, natural in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        line = natural.lstrip(_SPACES)
        if pending is None and (not line or line[0] in "#!"):
            continue
        first, before = pending or (number, "")
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending = (first, before + line[:-1])
            continue
        pending = None
        lines.append((first, before + line))
    if pending is not None:
        lines.append(pending)
    return lines


def _split(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=:" + _SPACES:
        position += 2 if line[position] == "\\" else 1
    key, rest = line[:position], line[position:].lstrip(_SPACES)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_SPACES)
    return key, rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts, position = [], 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            parts.append(character)
        elif position < len(text):
            escaped = text[position]
            position += 1
            if escaped == "u":
                digits = text[position : position + 4]
                if len(digits) < 4:
                    raise ValueError(digits)
                parts.append(chr(int(digits, 16)))
                position += 4
            else:
                parts.append(_ESCAPES.get(escaped, escaped))
    return "".join(parts)
