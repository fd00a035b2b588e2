"""Which fields stand on the wire in which versions, and the `struct` formats that take several of them at once."""

from collections.abc import Iterator

from tools.protocol.model import FIXED, Field, MessageDefinition, StructDefinition, Versions


def patterns(fields: list[Field], versions: Versions) -> Iterator[tuple[Versions, list[Field]]]:
    """Newest first: ranges of versions in which the same ones of `fields` are present, and those fields."""
    high = versions.last
    for version in range(versions.last, versions.first - 1, -1):
        present = _present(fields, version)
        if version == versions.first or _present(fields, version - 1) != present:
            yield Versions(version, high), present
            high = version - 1


def _present(fields: list[Field], version: int) -> list[Field]:
    return [one for one in fields if version in one.versions]


def letters(fields: list[Field]) -> str:
    return "".join(FIXED[one.type][0] for one in fields)


def struct_name(format_letters: str) -> str:
    """The module-level name of a compiled `Struct`."""
    return "_" + format_letters.replace("?", "o").replace("16s", "u")


def size_of(fields: list[Field]) -> int:
    return sum(FIXED[one.type][1] for one in fields)


def function_name(verb: str, message: MessageDefinition, struct: StructDefinition, *, flexible: bool) -> str:
    """Readers and writers of a struct; the encoding before KIP-482 gets a suffix."""
    return f"_{verb}_{struct.snake_name}" + ("" if flexible else "_classic")


def smallest_size(message: MessageDefinition, struct: StructDefinition, versions: Versions, *, flexible: bool) -> int:
    """The fewest bytes that the struct takes in any of these versions."""
    reach = struct.versions & versions
    return min(
        sum(_smallest(message, one, reach, flexible=flexible) for one in _untagged_in(struct, version)) + flexible
        for version in range(reach.first, reach.last + 1)
    )


def _untagged_in(struct: StructDefinition, version: int) -> list[Field]:
    return [one for one in struct.fields if one.tag is None and version in one.versions]


def _smallest(message: MessageDefinition, field: Field, versions: Versions, *, flexible: bool) -> int:
    if field.is_fixed:
        return FIXED[field.type][1]
    if field.is_struct and not field.is_array:
        inner = smallest_size(message, message.struct(field.type), versions & field.versions, flexible=flexible)
        return 1 if field.nullable else inner
    if flexible and not field.always_classic:
        return 1
    return 2 if field.type == "string" and not field.is_array else 4
