"""Emits the classes of a message and its structs."""

from tools.protocol.lines import Lines
from tools.protocol.model import Field, MessageDefinition, StructDefinition


def wrap(pieces: list[str]) -> list[str]:
    """The pieces, each with its comma, in indented lines of a readable length."""
    lines = [" "]
    for piece in pieces:
        if len(lines[-1]) + len(piece) > 100:
            lines.append("   ")
        lines[-1] += f" {piece},"
    return ["    " + line.strip() for line in lines]


def emit_struct(out: Lines, struct: StructDefinition) -> None:
    with out.block(f"class {struct.name}(Data):"):
        _fields(out, struct)
        out.add("")
        _constructor(out, struct)


def emit_message(out: Lines, message: MessageDefinition) -> None:
    struct = message.top
    with out.block(f"class {struct.name}(Message):"):
        _fields(out, struct)
        out.add("")
        if message.api_key is not None:
            out.add(f"API_KEY = {message.api_key}")
        out.add(f"MIN_VERSION = {struct.versions.first}", f"MAX_VERSION = {struct.versions.last}")
        out.add(f"FIRST_FLEXIBLE_VERSION = {_first_flexible(message)}", "")
        _constructor(out, struct)
        out.add("", "@classmethod")
        out.add("def _read(", "    cls, buffer: bytes, position: int, version: int, quota: list[int]")
        with out.block(f") -> tuple[{struct.name}, int]:"):
            call = f"_read_{message.module}{{}}(buffer, position, version, 1, quota)"
            _dispatch(out, message, "(m,), position = " + call)
            out.add("return m, position")
        out.add("")
        with out.block("def _write(self, out: bytearray, version: int) -> None:"):
            _dispatch(out, message, f"_write_{message.module}{{}}(out, [self], version)")


def _first_flexible(message: MessageDefinition) -> str:
    return "NEVER" if message.first_flexible is None else str(message.first_flexible)


def _dispatch(out: Lines, message: MessageDefinition, call: str) -> None:
    halves = [flexible for flexible, _ in message.halves(message.top)]
    if len(halves) == 1:
        out.add(call.format("" if halves[0] else "_classic"))
        return
    with out.block(f"if version >= {message.first_flexible}:"):
        out.add(call.format(""))
    with out.block("else:"):
        out.add(call.format("_classic"))


def _fields(out: Lines, struct: StructDefinition) -> None:
    out.add("__slots__ = (", *wrap([f'"{one.name}"' for one in struct.fields]), ")", "")
    out.add(*(f"{one.name}: {one.annotation}" for one in struct.fields))


def _constructor(out: Lines, struct: StructDefinition) -> None:
    if not struct.fields:
        out.add("def __init__(self) -> None: ...")
        return
    out.add("def __init__(")
    out.add(*wrap(["self", "*", *(f"{one.name}: {_parameter(one)}" for one in struct.fields)]))
    with out.block(") -> None:"):
        out.add(*(f"self.{one.name} = {_initial(one)}" for one in struct.fields))


def _parameter(field: Field) -> str:
    default = field.default_expression
    if default == "[]":
        return f"{field.annotation} = EMPTY"
    if default.endswith("()"):
        return f"{field.annotation} = UNSET" if field.nullable else f"{field.annotation} | None = None"
    return f"{field.annotation} = {default}"


def _initial(field: Field) -> str:
    default = field.default_expression
    if default == "[]":
        return f"[] if {field.name} is EMPTY else {field.name}"
    if default.endswith("()") and field.nullable:
        return f"{default} if {field.name} is UNSET else {field.name}"
    if default.endswith("()"):
        return f"{default} if {field.name} is None else {field.name}"
    return field.name
